"""The built-in backbone: its network, its weights and how they were pretrained."""
