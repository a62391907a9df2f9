"""What every HTML page of the library shares: templates, figures, numbers."""
