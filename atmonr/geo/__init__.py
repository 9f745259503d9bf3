"""WGS-84 geodesy, a scene's local frame, lines of sight and the sun: metres in, metres out."""
