# connect(2) by io_uring, without any library: one ring, one request.
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
params = (ctypes.c_uint32 * 30)()
if SQPOLL:
    params[2] = 2      # IORING_SETUP_SQPOLL
    params[4] = 1000   # idle, ms
ring = libc.syscall(425, 4, params)
assert ring >= 0, os.strerror(ctypes.get_errno())
# struct io_sqring_offsets begins at byte 40, io_cqring_offsets at byte 80.
sq_head, sq_tail, sq_mask, sq_entries, sq_flags, sq_dropped, sq_array = params[10:17]
cq_head, cq_tail, cq_mask, cq_entries, cq_overflow, cq_cqes = params[20:26]
rings = mmap.mmap(ring, sq_array + 4 * params[0] + cq_cqes + 16 * params[1], offset=0)
sqes = mmap.mmap(ring, 64 * params[0], offset=0x10000000)
s = socket.socket()
to = ctypes.create_string_buffer(struct.pack('=H', socket.AF_INET) + struct.pack('!H', 80) + socket.inet_aton('192.0.2.1') + bytes(8), 16)
# opcode IORING_OP_CONNECT, flags, ioprio, fd, off = length of the address, addr
sqes[0:64] = struct.pack('=BBHiQQ', 16, 0, 0, s.fileno(), 16, ctypes.addressof(to)) + bytes(40)
rings[sq_array:sq_array + 4] = struct.pack('=I', 0)
rings[sq_tail:sq_tail + 4] = struct.pack('=I', 1)
# submit 1, wait for 1; IORING_ENTER_GETEVENTS, and IORING_ENTER_SQ_WAKEUP for a kernel thread
assert libc.syscall(426, ring, 1, 1, 3 if SQPOLL else 1, None, 0) >= 0, os.strerror(ctypes.get_errno())
result = struct.unpack('=i', rings[cq_cqes + 8:cq_cqes + 12])[0]
print(result, answer(s))
