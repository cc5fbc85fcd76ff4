"""Exports of chats, each told by its structure and read by author."""
