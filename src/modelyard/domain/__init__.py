"""The words of Modelyard as frozen types, and its rules: no input, no output, no clock, no framework."""
