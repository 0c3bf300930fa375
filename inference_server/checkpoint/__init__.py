"""What a checkpoint's folder holds, read without torch and without trust; the warm-up and the engine both ask here."""
