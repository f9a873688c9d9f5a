//! Values that are replaced while they are read: settings that are reloaded.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// A value that can be replaced; every clone shows the latest one.
///
/// It reads like the value itself, so whoever uses a setting need not know that it may change. For that, what was replaced
/// is never freed: a few hundred bytes for each time that somebody edits a file and sends a signal.
pub struct Live<T: 'static>(Arc<ArcSwap<&'static T>>);

impl<T> Live<T> {
    /// The value it begins with.
    pub fn new(value: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(&*Box::leak(Box::new(value)))))
    }
}

impl<T: PartialEq> Live<T> {
    /// Replaces the value, unless it is the same.
    pub fn replace(&self, value: T) {
        if **self != value {
            self.0.store(Arc::new(Box::leak(Box::new(value))));
        }
    }
}

impl<T> Deref for Live<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let latest: &'static T = **self.0.load();
        latest
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> From<&T> for Live<T> {
    fn from(value: &T) -> Self {
        Self::new(value.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clone_shows_the_latest() {
        let one = Live::new(1);
        let (other, before) = (one.clone(), *one);
        one.replace(2);
        assert_eq!((before, *one, *other), (1, 2, 2));
    }
}
