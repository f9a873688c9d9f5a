//! Checked reads over untrusted bytes: every read names its field, none can panic, none copies.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::Lsn;
use crate::model::time::PgTime;
use crate::pgoutput::Malformed;

const ENDS_EARLY: &str = "ends early";

/// Reads one message from front to back.
#[derive(Debug)]
pub(crate) struct Reader {
    bytes: Bytes,
    at: usize,
    replaced: u64,
}

impl Reader {
    pub(crate) const fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0, replaced: 0 }
    }

    /// Bytes not read yet.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// How many texts were not UTF-8 and had to be replaced.
    pub(crate) const fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Everything not read yet, as a slice of the same memory.
    pub(crate) fn rest(&mut self) -> Bytes {
        let rest = self.bytes.slice(self.at..);
        self.at = self.bytes.len();
        rest
    }

    /// Refuses what nobody asked for: a message read to its end must be at its end.
    pub(crate) fn end(&self, message: &'static str) -> Result<(), Malformed> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(Malformed::new(message, "has bytes left over"))
        }
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let tail = self.bytes.get(self.at..).and_then(|tail| tail.first_chunk::<N>());
        let array = *tail.ok_or(Malformed::new(field, ENDS_EARLY))?;
        self.at += N;
        Ok(array)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, Malformed> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(crate) fn lsn(&mut self, field: &'static str) -> Result<Lsn, Malformed> {
        self.array(field).map(|bytes| Lsn::new(u64::from_be_bytes(bytes)))
    }

    pub(crate) fn time(&mut self, field: &'static str) -> Result<PgTime, Malformed> {
        self.array(field).map(|bytes| PgTime::from_pg_micros(i64::from_be_bytes(bytes)))
    }

    /// A 16-bit count, which is never negative.
    pub(crate) fn count16(&mut self, field: &'static str) -> Result<usize, Malformed> {
        let count = self.array(field).map(i16::from_be_bytes)?;
        usize::try_from(count).map_err(|_| Malformed::new(field, "is negative"))
    }

    /// A 32-bit count or length, which is never negative.
    pub(crate) fn count32(&mut self, field: &'static str) -> Result<usize, Malformed> {
        usize::try_from(self.i32(field)?).map_err(|_| Malformed::new(field, "is negative"))
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, field: &'static str, len: usize) -> Result<Bytes, Malformed> {
        if self.remaining() < len {
            return Err(Malformed::new(field, ENDS_EARLY));
        }
        let taken = self.bytes.slice(self.at..self.at + len);
        self.at += len;
        Ok(taken)
    }

    /// The next `len` bytes as text: the same memory when it is UTF-8, a mended copy when it is not.
    pub(crate) fn text(&mut self, field: &'static str, len: usize) -> Result<Bytes, Malformed> {
        let bytes = self.take(field, len)?;
        if std::str::from_utf8(&bytes).is_ok() {
            return Ok(bytes);
        }
        self.replaced += 1;
        Ok(Bytes::from(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// A name that ends in a zero byte.
    pub(crate) fn name(&mut self, field: &'static str) -> Result<Arc<str>, Malformed> {
        let tail = self.bytes.get(self.at..).unwrap_or_default();
        let (name, _) = tail
            .iter()
            .position(|byte| *byte == 0)
            .and_then(|end| tail.split_at_checked(end))
            .ok_or(Malformed::new(field, "has no end"))?;
        let text = String::from_utf8_lossy(name);
        self.at += name.len() + 1;
        self.replaced += u64::from(matches!(text, std::borrow::Cow::Owned(_)));
        Ok(Arc::from(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_past_the_end_names_its_field_and_takes_nothing() {
        let mut reader = Reader::new(Bytes::from_static(b"\x00\x01\x02"));
        assert_eq!(reader.u32("xid"), Err(Malformed::new("xid", ENDS_EARLY)));
        assert_eq!(reader.take("value", 4), Err(Malformed::new("value", ENDS_EARLY)));
        assert_eq!(reader.count16("columns"), Ok(1));
        assert_eq!(reader.remaining(), 1);
    }

    #[test]
    fn a_count_below_zero_is_refused() {
        let mut reader = Reader::new(Bytes::from_static(b"\xff\xff\xff\xff\xff\xff"));
        assert_eq!(reader.count16("columns"), Err(Malformed::new("columns", "is negative")));
        assert_eq!(reader.count32("length"), Err(Malformed::new("length", "is negative")));
    }

    #[test]
    fn a_name_without_an_end_is_refused() {
        let mut reader = Reader::new(Bytes::from_static(b"a\0b"));
        assert_eq!(reader.name("schema").as_deref(), Ok("a"));
        assert_eq!(reader.name("table"), Err(Malformed::new("table", "has no end")));
    }

    #[test]
    fn text_that_is_not_utf8_is_replaced_and_counted() {
        let mut reader = Reader::new(Bytes::from_static(b"\xc3\xbcl\xe4l\xff\0"));
        assert_eq!(reader.text("value", 3).as_deref(), Ok("\u{fc}l".as_bytes()));
        assert_eq!(reader.replaced(), 0);
        assert_eq!(reader.text("value", 2).as_deref(), Ok("\u{fffd}l".as_bytes()));
        assert_eq!(reader.name("name").as_deref(), Ok("\u{fffd}"));
        assert_eq!(reader.replaced(), 2);
    }

    #[test]
    fn text_is_the_memory_it_arrived_in() {
        let bytes = Bytes::from(vec![b'a'; 64]);
        let text = Reader::new(bytes.clone()).text("value", 64).unwrap();
        assert_eq!(text.as_ptr(), bytes.as_ptr());
    }
}
