"""How good an extract is: scores against a known truth, image scores, pictures."""
