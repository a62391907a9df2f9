"""What a run file would need before it runs: memory of a device by part, seconds of an update by phase. No torch."""
