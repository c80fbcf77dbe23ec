"""What every room stands on: errors, the console, files, memory, devices."""
