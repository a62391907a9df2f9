"""What an accelerator computes, against a CPU and float64. Skipped where there is none."""
