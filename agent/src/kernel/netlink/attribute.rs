//! Netlink attributes (`struct nlattr`): reading what the kernel wrote without trusting it.
//!
//! <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netlink.h#L230>

/// Length of `struct nlattr`: `u16` length, `u16` type, both in host byte order.
pub const HEADER: usize = 4;

/// `NLA_TYPE_MASK`: the type without the bits for "nested" and "network byte order".
const TYPE_MASK: u16 = 0x3fff;

/// A message that does not hold what its own lengths or the kernel's interface promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A length field that points outside of what surrounds it.
    #[error("{place}: an attribute says it has {length} bytes where {available} are left")]
    Length {
        /// The attribute or message that it is part of.
        place: &'static str,
        /// What the length field says.
        length: usize,
        /// What is there.
        available: usize,
    },
    /// A payload of the wrong size.
    #[error("{place}: needs {needed} bytes, has {available}")]
    Payload {
        /// The attribute.
        place: &'static str,
        /// Bytes that its type has.
        needed: usize,
        /// Bytes that it carries.
        available: usize,
    },
    /// An attribute that the message cannot do without.
    #[error("{place} is missing")]
    Missing {
        /// The attribute.
        place: &'static str,
    },
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type, flag bits removed.
    pub kind: u16,
    /// Its value, padding removed.
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes that this one contains.
    #[must_use]
    pub const fn nested(&self, place: &'static str) -> Attributes<'a> {
        Attributes::new(self.payload, place)
    }

    /// The payload as an array of exactly `N` bytes.
    ///
    /// # Errors
    /// When it is shorter or longer.
    pub fn array<const N: usize>(&self, place: &'static str) -> Result<[u8; N], Malformed> {
        self.payload.try_into().map_err(|_| Malformed::Payload {
            place,
            needed: N,
            available: self.payload.len(),
        })
    }

    /// A byte.
    ///
    /// # Errors
    /// When the payload has another size.
    pub fn u8(&self, place: &'static str) -> Result<u8, Malformed> {
        self.array(place).map(|[byte]| byte)
    }

    /// Two bytes in network byte order, as all of netfilter's numbers are.
    ///
    /// # Errors
    /// When the payload has another size.
    pub fn u16(&self, place: &'static str) -> Result<u16, Malformed> {
        self.array(place).map(u16::from_be_bytes)
    }

    /// Four bytes in network byte order.
    ///
    /// # Errors
    /// When the payload has another size.
    pub fn u32(&self, place: &'static str) -> Result<u32, Malformed> {
        self.array(place).map(u32::from_be_bytes)
    }

    /// Eight bytes in network byte order.
    ///
    /// # Errors
    /// When the payload has another size.
    pub fn u64(&self, place: &'static str) -> Result<u64, Malformed> {
        self.array(place).map(u64::from_be_bytes)
    }
}

/// The attributes in a stretch of bytes, in their order. Ends after the first malformed one.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
    place: &'static str,
}

impl<'a> Attributes<'a> {
    /// Reads from `bytes`; `place` names the surrounding attribute or message in errors.
    #[must_use]
    pub const fn new(bytes: &'a [u8], place: &'static str) -> Self {
        Self { rest: bytes, place }
    }

    fn step(&mut self) -> Result<Attribute<'a>, Malformed> {
        let available = self.rest.len();
        let Some(([low, high, kind_low, kind_high], _)) = self.rest.split_first_chunk::<HEADER>() else {
            return Err(Malformed::Payload { place: self.place, needed: HEADER, available });
        };
        let length = usize::from(u16::from_ne_bytes([*low, *high]));
        let kind = u16::from_ne_bytes([*kind_low, *kind_high]) & TYPE_MASK;
        let payload = self.rest.get(HEADER..length).ok_or(Malformed::Length {
            place: self.place,
            length,
            available,
        })?;
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Ok(Attribute { kind, payload })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let attribute = self.step();
        if attribute.is_err() {
            self.rest = &[];
        }
        Some(attribute)
    }
}

/// `NLA_ALIGN`, `NLMSG_ALIGN`: up to the next multiple of four.
#[must_use]
pub const fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::netlink::message::Writer;

    #[test]
    fn what_was_written_is_read_back() {
        let mut writer = Writer::default();
        writer.attribute(7, &[1, 2, 3]);
        writer.nested(8, |inner| inner.attribute(1, &0x0102_u16.to_be_bytes()));
        let bytes = writer.into_bytes();

        let all: Vec<_> = Attributes::new(&bytes, "test").map(Result::unwrap).collect();
        assert_eq!(all[0], Attribute { kind: 7, payload: &[1, 2, 3] });
        assert_eq!(all[1].kind, 8);
        let inner: Vec<_> = all[1].nested("test").map(Result::unwrap).collect();
        assert_eq!(inner[0].u16("inner").unwrap(), 0x0102);
        assert_eq!(inner.len(), 1);
    }

    #[test]
    fn a_length_that_leaves_the_message_is_named() {
        let mut bytes = vec![0; 8];
        bytes[..2].copy_from_slice(&40_u16.to_ne_bytes());
        let error = Attributes::new(&bytes, "CTA_TUPLE_ORIG").next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "CTA_TUPLE_ORIG: an attribute says it has 40 bytes where 8 are left");
    }

    #[test]
    fn a_length_shorter_than_its_own_header_is_malformed_and_does_not_loop() {
        let bytes = [0; 64];
        let all: Vec<_> = Attributes::new(&bytes, "test").collect();
        assert_eq!(all.len(), 1);
        assert!(all[0].is_err());
    }

    #[test]
    fn a_number_of_the_wrong_size_is_named() {
        let error = Attribute { kind: 18, payload: &[1] }.u16("CTA_ZONE").unwrap_err();
        assert_eq!(error.to_string(), "CTA_ZONE: needs 2 bytes, has 1");
    }

    proptest! {
        #[test]
        fn garbage_ends_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let read = Attributes::new(&bytes, "garbage").count();
            prop_assert!(read <= bytes.len() / HEADER + 1);
        }
    }
}
