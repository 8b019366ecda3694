"""The demonstration: a real recording with labelled failures, and how well they were announced."""
