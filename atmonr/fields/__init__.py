"""Position and direction to extinction and light: what is learned of a scene."""
