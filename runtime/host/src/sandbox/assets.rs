//! Files that a module carries in custom sections and that only its init may read.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The assets of one module, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assets(BTreeMap<String, Bytes>);

impl Assets {
    /// Adds one; false if the name is taken.
    pub fn insert(&mut self, name: String, bytes: Bytes) -> bool {
        use std::collections::btree_map::Entry;
        match self.0.entry(name) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(bytes);
                true
            }
        }
    }

    /// The bytes of one; shared, not copied.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Bytes> {
        self.0.get(name).cloned()
    }

    /// Whether the module carries none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Name and bytes of each, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.0.iter().map(|(name, bytes)| (name.as_str(), bytes))
    }

    /// Bytes of their own, for assets that outlive the upload: a slice of it would keep all of it.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(self.0.iter().map(|(name, b)| (name.clone(), Bytes::copy_from_slice(b))).collect())
    }
}
