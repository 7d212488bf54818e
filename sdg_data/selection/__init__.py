"""Best of N: a verifier chooses one of a prompt's images, and a curve says what that is worth."""
