"""Health: copies, the split, damaged pictures, quarantine, exports."""
