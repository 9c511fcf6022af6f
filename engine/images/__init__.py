"""Images: from bytes to pixels in one place, augmentation, thumbnails, and what pixels say. Light."""
