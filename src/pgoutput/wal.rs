//! The envelope on a replication connection: WAL data and keepalives one way, status updates the other.

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::Lsn;
use crate::model::time::PgTime;
use crate::pgoutput::Malformed;
use crate::pgoutput::reader::Reader;

/// The payload of one CopyData on a replication connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// A piece of the logical stream. Its own positions are not trustworthy (0/0 before a Relation), so they are
    /// not kept.
    Data(Bytes),
    /// The server is alive.
    Keepalive {
        /// End of WAL on the server.
        wal_end: Lsn,
        /// It wants a status update now.
        reply_requested: bool,
    },
}

impl Envelope {
    /// Decodes `w` and `k`.
    ///
    /// # Errors
    /// Names the field that does not fit.
    pub fn decode(payload: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        match reader.u8("envelope tag")? {
            b'w' => {
                reader.lsn("data start")?;
                reader.lsn("data end of wal")?;
                reader.time("data sent at")?;
                Ok(Self::Data(reader.rest()))
            }
            b'k' => {
                let wal_end = reader.lsn("keepalive end of wal")?;
                reader.time("keepalive sent at")?;
                let reply_requested = reader.u8("keepalive reply")? != 0;
                reader.end("keepalive")?;
                Ok(Self::Keepalive { wal_end, reply_requested })
            }
            tag => Err(Malformed::tag("envelope tag", "is unknown:", tag)),
        }
    }
}

/// Encodes a standby status update (`r`), the payload of one CopyData.
///
/// Positions are written exactly as given; no reply is asked for.
pub fn status_update(received: Lsn, flushed: Lsn, applied: Lsn, now: PgTime) -> Bytes {
    let mut update = BytesMut::with_capacity(34);
    update.put_u8(b'r');
    update.put_u64(received.bytes());
    update.put_u64(flushed.bytes());
    update.put_u64(applied.bytes());
    update.put_i64(now.pg_micros());
    update.put_u8(0);
    update.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keepalive(wal_end: u64, reply: u8) -> Vec<u8> {
        let mut bytes = vec![b'k'];
        bytes.extend(wal_end.to_be_bytes());
        bytes.extend(7_i64.to_be_bytes());
        bytes.push(reply);
        bytes
    }

    #[test]
    fn data_is_what_follows_its_header() {
        let mut bytes = vec![b'w'];
        bytes.extend([0; 24]);
        bytes.extend(b"B...");
        assert_eq!(
            Envelope::decode(Bytes::from(bytes)),
            Ok(Envelope::Data(Bytes::from_static(b"B...")))
        );
    }

    #[test]
    fn a_keepalive_says_where_the_wal_ends_and_whether_it_wants_an_answer() {
        let decode = |reply| Envelope::decode(Bytes::from(keepalive(0x16_B374_D848, reply)));
        let wal_end = Lsn::new(0x16_B374_D848);
        assert_eq!(decode(0), Ok(Envelope::Keepalive { wal_end, reply_requested: false }));
        assert_eq!(decode(1), Ok(Envelope::Keepalive { wal_end, reply_requested: true }));
    }

    #[test]
    fn every_prefix_of_a_keepalive_is_an_error() {
        let whole = keepalive(1, 1);
        for len in 0..whole.len() {
            let prefix = Bytes::copy_from_slice(&whole[..len]);
            assert!(Envelope::decode(prefix).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn an_unknown_envelope_is_named_by_its_tag() {
        let error = Envelope::decode(Bytes::from_static(b"x")).unwrap_err();
        assert_eq!(error.to_string(), "envelope tag is unknown: 'x'");
    }

    #[test]
    fn a_status_update_carries_three_positions_exactly_as_given() {
        let update = status_update(
            Lsn::new(3),
            Lsn::new(2),
            Lsn::new(1),
            PgTime::from_pg_micros(0x0102_0304_0506_0708),
        );
        let expected: &[u8] = &[
            b'r', 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3,
            4, 5, 6, 7, 8, 0,
        ];
        assert_eq!(&*update, expected);
    }
}
