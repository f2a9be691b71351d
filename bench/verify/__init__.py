"""What an evaluation costs, against the command line of lm-eval."""
