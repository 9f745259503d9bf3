"""A cloud volume seen by an instrument: native-format granules whose truth is known.

The radiances come from radiative transfer (attenuated sun, single scattering with a forward-peaked phase
function, multiple scattering by discrete ordinates, reflecting surfaces, molecular scattering), not from the
emission-absorption model that training uses: recovering the cloud from them is a real test.
"""
