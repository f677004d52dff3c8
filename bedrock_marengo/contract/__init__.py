"""What goes in, what comes out, and what each model version allows. Pure data, no network."""
