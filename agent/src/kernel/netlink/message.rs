//! Netlink messages (`struct nlmsghdr`): the frames inside a datagram, and the writer of requests.
//!
//! <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netlink.h#L45>

use std::io;

use super::attribute::{Attributes, Malformed, align};

/// Length of `struct nlmsghdr`.
pub const HEADER: usize = 16;

/// Length of `struct nfgenmsg`, which begins the payload of every netfilter message.
pub const NETFILTER_HEADER: usize = 4;

/// Offset of `nlmsg_len` and, right behind, of `nlmsg_type`.
const LENGTH_FIELD: usize = 4;

/// `NLA_F_NESTED`
const NESTED: u16 = 1 << 15;

/// `NLMSGERR_ATTR_MSG`: the kernel's own words about an error.
const ERROR_TEXT: u16 = 1;

/// The kernel's refusal of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelError {
    /// The error number.
    pub errno: i32,
    /// What the kernel added in words (`NETLINK_EXT_ACK`).
    pub text: Option<String>,
}

impl std::fmt::Display for KernelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        self.text.iter().try_for_each(|text| write!(f, ": {text}"))
    }
}

impl std::error::Error for KernelError {}

impl From<KernelError> for io::Error {
    fn from(error: KernelError) -> Self {
        let plain = Self::from_raw_os_error(error.errno);
        if error.text.is_none() { plain } else { Self::new(plain.kind(), error) }
    }
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`: for netfilter the subsystem in the high byte, the message in the low one.
    pub kind: u16,
    /// `nlmsg_flags`
    pub flags: u16,
    /// `nlmsg_seq`: that of the request which it answers.
    pub sequence: u32,
    /// `nlmsg_pid`: in events, the port of the socket that caused them; 0 for the kernel itself.
    pub port: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind the netfilter header.
    ///
    /// # Errors
    /// When the message is too short for that header.
    pub fn netfilter_attributes(&self, place: &'static str) -> Result<Attributes<'a>, Malformed> {
        let bytes = self.payload.get(NETFILTER_HEADER..).ok_or(Malformed::Payload {
            place,
            needed: NETFILTER_HEADER,
            available: self.payload.len(),
        })?;
        Ok(Attributes::new(bytes, place))
    }

    /// Whether a dump was disturbed, so that entries may be missing from it.
    #[must_use]
    pub const fn is_interrupted(&self) -> bool {
        self.flags & libc::NLM_F_DUMP_INTR as u16 != 0
    }

    /// What `NLMSG_ERROR` or `NLMSG_DONE` says about a request: `Ok` also for a mere acknowledgement.
    ///
    /// # Errors
    /// The kernel's refusal; `EBADMSG` for a message too short to tell.
    pub fn outcome(&self) -> Result<(), KernelError> {
        let Some((number, rest)) = self.payload.split_first_chunk::<4>() else {
            return Err(KernelError { errno: libc::EBADMSG, text: None });
        };
        match i32::from_ne_bytes(*number) {
            // A positive number counts entries or the like.
            0.. => Ok(()),
            number => Err(KernelError { errno: number.saturating_neg(), text: self.error_text(rest) }),
        }
    }

    fn error_text(&self, rest: &[u8]) -> Option<String> {
        if self.flags & libc::NLM_F_ACK_TLVS as u16 == 0 {
            return None;
        }
        let attributes = if self.kind == libc::NLMSG_DONE as u16 { rest } else { self.behind_request(rest)? };
        let text = Attributes::new(attributes, "NLMSG_ERROR").flatten().find(|a| a.kind == ERROR_TEXT)?;
        let text = text.payload.strip_suffix(&[0]).unwrap_or(text.payload);
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// Skips the copy of the request that an error carries: its header alone when capped.
    fn behind_request<'b>(&self, rest: &'b [u8]) -> Option<&'b [u8]> {
        let capped = self.flags & libc::NLM_F_CAPPED as u16 != 0;
        let length = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
        rest.get(if capped { HEADER } else { align(usize::try_from(length).ok()?) }..)
    }
}

/// The messages of a datagram, in their order. Ends after the first malformed one.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Reads a datagram.
    #[must_use]
    pub const fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    fn step(&mut self) -> Result<Message<'a>, Malformed> {
        const PLACE: &str = "netlink message";
        let available = self.rest.len();
        let Some((header, _)) = self.rest.split_first_chunk::<HEADER>() else {
            return Err(Malformed::Payload { place: PLACE, needed: HEADER, available });
        };
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let payload =
            self.rest.get(HEADER..length).ok_or(Malformed::Length { place: PLACE, length, available })?;
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Ok(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            port: u32::from_ne_bytes([p0, p1, p2, p3]),
            payload,
        })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let message = self.step();
        if message.is_err() {
            self.rest = &[];
        }
        Some(message)
    }
}

/// What a request's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// `nlmsg_type`
    pub kind: u16,
    /// `nlmsg_flags` besides `NLM_F_REQUEST`.
    pub flags: u16,
    /// `nlmsg_seq`
    pub sequence: u32,
    /// `nfgen_family`
    pub family: u8,
    /// `res_id`, in host byte order.
    pub resource: u16,
}

/// Builds requests. Lengths are those of the agent's own small messages; one that would not fit its field is
/// written as the largest possible, which the kernel refuses.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A message with its netfilter header; `body` adds the attributes.
    pub fn message(&mut self, header: Header, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH_FIELD]);
        self.bytes.extend_from_slice(&header.kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(header.flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&header.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&[header.family, 0]);
        self.bytes.extend_from_slice(&header.resource.to_be_bytes());
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.patch(start, &length.to_ne_bytes());
    }

    /// An attribute with its payload.
    pub fn attribute(&mut self, kind: u16, payload: &[u8]) {
        self.framed(kind, |writer| writer.bytes.extend_from_slice(payload));
    }

    /// A string attribute, with the terminating zero that the kernel expects.
    pub fn string(&mut self, kind: u16, text: &str) {
        self.framed(kind, |writer| {
            writer.bytes.extend_from_slice(text.as_bytes());
            writer.bytes.push(0);
        });
    }

    /// A number in network byte order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// An attribute that contains attributes.
    pub fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.framed(kind | NESTED, body);
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn framed(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.patch(start, &length.to_ne_bytes());
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    fn patch(&mut self, start: usize, value: &[u8]) {
        if let Some(field) = self.bytes.get_mut(start..start + value.len()) {
            field.copy_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER_OF_TEST: Header =
        Header { kind: 0x0101, flags: 0x300, sequence: 9, family: 2, resource: 10 };

    #[test]
    fn a_written_message_is_read_back_with_its_attributes() {
        let mut writer = Writer::default();
        writer.message(HEADER_OF_TEST, |w| w.string(1, "abc"));
        writer.message(HEADER_OF_TEST, |w| w.u32(2, 5));
        let bytes = writer.into_bytes();
        let all: Vec<_> = Messages::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].sequence, all[0].flags), (0x0101, 9, 0x301));
        let text = all[0].netfilter_attributes("test").unwrap().next().unwrap().unwrap();
        assert_eq!(text.payload, b"abc\0");
        let number = all[1].netfilter_attributes("test").unwrap().next().unwrap().unwrap();
        assert_eq!(number.u32("number").unwrap(), 5);
    }

    fn error(errno: i32, flags: i32, behind: &[u8]) -> Vec<u8> {
        let mut payload = (-errno).to_ne_bytes().to_vec();
        payload.extend_from_slice(&16_u32.to_ne_bytes());
        payload.extend_from_slice(&[0; 12]);
        payload.extend_from_slice(behind);
        let mut bytes = u32::try_from(HEADER + payload.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());
        bytes.extend_from_slice(&(flags as u16).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&payload);
        bytes
    }

    fn outcome(bytes: &[u8]) -> Result<(), KernelError> {
        Messages::new(bytes).next().unwrap().unwrap().outcome()
    }

    #[test]
    fn an_acknowledgement_is_no_error() {
        outcome(&error(0, libc::NLM_F_CAPPED, &[])).unwrap();
    }

    #[test]
    fn a_refusal_carries_the_words_of_the_kernel() {
        let mut text = Writer::default();
        text.string(ERROR_TEXT, "no such thing");
        let bytes = error(libc::EPERM, libc::NLM_F_CAPPED | libc::NLM_F_ACK_TLVS, &text.into_bytes());
        let error = outcome(&bytes).unwrap_err();
        assert_eq!(error.errno, libc::EPERM);
        assert!(error.to_string().ends_with(": no such thing"), "{error}");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_refusal_without_words_keeps_its_number() {
        let error = outcome(&error(libc::ENOENT, 0, &[])).unwrap_err();
        assert_eq!(error, KernelError { errno: libc::ENOENT, text: None });
        assert_eq!(io::Error::from(error).raw_os_error(), Some(libc::ENOENT));
    }

    proptest! {
        #[test]
        fn garbage_ends_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let mut read = 0;
            for message in Messages::new(&bytes).flatten() {
                let _ = message.outcome();
                let _ = message.netfilter_attributes("garbage").map(Iterator::count);
                read += 1;
            }
            prop_assert!(read <= bytes.len() / HEADER + 1);
        }

        #[test]
        fn cut_errors_never_panic(cut in 0_usize..40, flags in 0..0x400_i32) {
            let bytes = error(libc::EINVAL, flags, b"\x0c\0\x01\0words\0\0\0");
            let mut short = bytes[..bytes.len() - cut.min(bytes.len() - HEADER)].to_vec();
            let length = u32::try_from(short.len()).unwrap();
            short[..4].copy_from_slice(&length.to_ne_bytes());
            prop_assert!(outcome(&short).is_err());
        }
    }
}
