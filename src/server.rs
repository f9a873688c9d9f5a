//! Listeners, health, metrics; merges the routes.
