"""Pictures of any generator, measured, compared and shown."""
