//! The `bpf(2)` commands that aya does not offer: loading and attaching programs to functions of a module.
#![expect(unsafe_code, reason = "system calls with raw attribute structs")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_btf_info, bpf_cmd, bpf_insn, bpf_prog_type};

/// `(info.btf_size + name)` of a BTF object in the kernel.
pub(super) struct BtfObject {
    pub(super) fd: OwnedFd,
    pub(super) name: String,
    /// Whether the kernel itself made it (vmlinux or a module), not a program's loader.
    pub(super) of_kernel: bool,
}

/// A tracing program to be loaded.
pub(super) struct TracingProgram<'a> {
    pub(super) name: &'a str,
    pub(super) instructions: &'a [bpf_insn],
    pub(super) attach_type: bpf_attach_type,
    /// Id of the function in its BTF.
    pub(super) function: u32,
    /// The BTF of the module that has the function; `None` for vmlinux.
    pub(super) module: Option<BorrowedFd<'a>>,
}

/// `BPF_PROG_LOAD` of a tracing program. With a buffer the verifier writes its log there.
pub(super) fn load_tracing_program(
    program: &TracingProgram<'_>,
    log: Option<&mut Vec<u8>>,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: BPF_PROG_LOAD reads this member of the union, which is all zeroes so far.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
    load.expected_attach_type = program.attach_type as u32;
    load.insns = program.instructions.as_ptr() as u64;
    load.insn_cnt = u32::try_from(program.instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    load.license = c"GPL".as_ptr() as u64;
    load.attach_btf_id = program.function;
    load.__bindgen_anon_1.attach_btf_obj_fd = program.module.map_or(0, |fd| fd.as_raw_fd().cast_unsigned());
    for (to, from) in load.prog_name.iter_mut().take(15).zip(program.name.bytes()) {
        *to = from.cast_signed();
    }
    if let Some(log) = log {
        load.log_level = 1;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = u32::try_from(log.len()).unwrap_or(u32::MAX);
    }
    bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// Attaches a loaded tracing program; it stays attached while the descriptor is open.
pub(super) fn attach_tracing_program(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.raw_tracepoint.prog_fd = program.as_raw_fd().cast_unsigned();
    bpf_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)
}

/// The id of the BTF object after `id`, `None` after the last.
pub(super) fn next_btf_id(id: u32) -> io::Result<Option<u32>> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.start_id = id;
    match bpf(bpf_cmd::BPF_BTF_GET_NEXT_ID, &mut attr) {
        // SAFETY: the kernel filled this member.
        Ok(_) => Ok(Some(unsafe { attr.__bindgen_anon_6.next_id })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a BTF object by id.
pub(super) fn open_btf(id: u32) -> io::Result<BtfObject> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.btf_id = id;
    let fd = bpf_fd(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut attr)?;
    let mut name = [0u8; 64];
    // SAFETY: the struct is made of integers.
    let mut info: bpf_btf_info = unsafe { std::mem::zeroed() };
    info.name = name.as_mut_ptr() as u64;
    info.name_len = name.len() as u32;
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = fd.as_raw_fd().cast_unsigned();
    attr.info.info = &raw mut info as u64;
    attr.info.info_len = size_of::<bpf_btf_info>() as u32;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(BtfObject { fd, name: String::from_utf8_lossy(name).into_owned(), of_kernel: info.kernel_btf != 0 })
}

fn zeroed_attr() -> bpf_attr {
    // SAFETY: the union is made of integers; the kernel demands that what is not used is zero.
    unsafe { std::mem::zeroed() }
}

fn bpf_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the pointer and size describe `attr`; the pointers in it were taken from live borrows by the callers.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(result).unwrap_or(-1)) }
}
