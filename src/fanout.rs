//! **The middle on one screen**: who asked, who may, who gets.
