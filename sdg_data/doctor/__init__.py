"""`sdg doctor`: what is installed, and what a profile needs; above the packages whose needs it asks for."""
