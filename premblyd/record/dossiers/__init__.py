"""A person's dossier: all that is held about somebody, to be handed out."""
