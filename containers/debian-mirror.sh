#!/bin/sh
# Prints the Debian mirror that apt of this machine uses; the public one where there is none.
{ sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources
  sed -n 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\(http[^ ]*\).*/\2/p' /etc/apt/sources.list; } 2>/dev/null |
    grep -v security | tr ' ' '\n' | grep . | head -1 | grep . || echo http://deb.debian.org/debian
