"""The app from a file: `lamella.toml`, checked whole before anything is built."""
