"""What a person does to the fake, and sees of it."""
