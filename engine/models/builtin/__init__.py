"""What works with no network: drawings, the small backbone's network and how it was pretrained."""
