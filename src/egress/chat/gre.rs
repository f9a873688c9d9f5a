//! x
use std::sync::Arc;
use axum::Router;
use super::Chat;
pub(super) fn routes(_chat: &Arc<Chat>) -> Router { Router::new() }
