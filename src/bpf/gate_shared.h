/* What the gate (gate.bpf.c) and user space agree on: map layouts. C, shared with eBPF. Addresses are 16 bytes in network order, IPv4
 * v4-mapped; ports in keys are in network order; sequence numbers are in host order and wrap.
 *
 * A later loader goes on with the maps of its predecessor (gate.cc), which is how the gate outlives geckod: whoever changes a layout
 * here changes its size, or the name of the map. */
#pragma once

#include "bpf/steer_shared.h"

#define GECKO_MAX_GATED 32768    /* protected connections of a node: as many as it may own (node/group_flows.cc) */
#define GECKO_MAX_YOUNG 16384    /* connections that `fast` ports have answered and geckod has not yet taken over (LRU: a SYN flood displaces itself) */
#define GECKO_BIRTH_BYTES 262144 /* ring of births, about 1,300 of them */
#define GECKO_MOVED_BYTES 4194304 /* ring of connections that moved: twice as many as there can be (48 bytes each) */

/* Row `gecko_group.index` of an array that its writers map into their memory: renewing a lease is one store of eight bytes, which no
 * reader sees half of, and needs no system call and no right.
 * Zero: closed. The deadline is in units of 1024 ns of CLOCK_BOOTTIME, which goes on while the machine sleeps. */
struct gecko_lease {
	__u64 word;              /* deadline << GECKO_LEASE_TERM_BITS | term */
};
#define GECKO_LEASE_TERM_BITS 16
#define GECKO_LEASE_UNIT_BITS 10
/* A deadline further ahead than this is a bug (another clock, another unit): closed. Above geckod's restart grace of 5 s. */
#define GECKO_LEASE_AHEAD_MAX_NS 60000000000ull

/* By gecko_group_key. A second row with port 0 stands for the address itself: it has protected ports. */
struct gecko_gate_port {
	__u16 lease;             /* row of the leases */
	__u16 pad;
};

#define GECKO_GATE_F_CLAMP 1     /* acknowledge up to `watermark` only */
#define GECKO_GATE_F_OUTPUT 2    /* send up to `released` only */
#define GECKO_GATE_F_MAY_END 4   /* its owner has ended it: FIN and RST may leave */

#define GECKO_GATE_SEEN_TIMESTAMPS 1 /* the connection uses RFC 7323 timestamps */
#define GECKO_GATE_SEEN_ECE 2        /* its last packet echoed congestion */
#define GECKO_GATE_SEEN_PEER_FIN 4   /* and acknowledged the client's FIN */

/* A protected connection. The first lines are written by user space, through gecko_gate_set; the rest by the program, on several
 * processors at once: pairs in one word, so that nobody sees half of one. (No bpf_spin_lock: before Linux 6.2 a sleepable program, which
 * gecko_gate_set is, may not touch a map that has one.) */
struct gecko_gated {
	__u32 watermark;         /* the backups have the client's bytes up to here */
	__u32 released;          /* the input that our output depends on is stable up to here */
	__u16 term;              /* of the lease it was protected under; another one: somebody else may own it */
	__u8 window_scale;       /* of the window we announce (RFC 7323), 0 to 14 */
	__u8 flags;              /* GECKO_GATE_F_* */
	__u32 snd_nxt;           /* end of what has been sent */
	__u64 sent;              /* what the client has been told: highest acknowledgement, then highest end of the window (__u32 each) */
	__u64 kernel;            /* the same two as our kernel's newest packet had them, passed or not */
	__u64 stamps;            /* timestamps of that packet: value, echo */
	__u64 passed_ns;         /* CLOCK_BOOTTIME of the last packet that left */
	__u8 seen;               /* GECKO_GATE_SEEN_* */
	__u8 wants_end;          /* a FIN or RST has been refused */
	__u8 pad[2];
	__u32 snd_una;           /* acknowledged by the client, when a packet left last */
	__u32 round;             /* reported in this one (struct gecko_round) */
	/* Of geckod, never changed here: sequence numbers of the stream's first bytes, and how many came before this machine's socket was made. */
	__u32 first_out;
	__u32 first_in;
	__u64 out_before;
	__u64 in_before;
};

/* Which connections have moved? Each is reported at most once per round, by its key; whoever reads begins the next round, and then looks. */
struct gecko_round {
	__u32 number;
	__u32 pad;
};

/* Connections between their SYN-ACK and geckod's word. */
struct gecko_young {
	__u16 term;
	__u16 pad;
	__u32 round;             /* reported in this one */
};

/* Changes an entry in place: argument and answer of the program gecko_gate_set (BPF_PROG_RUN). An update of the map would replace what
 * the gate has noted about a packet that leaves at the same moment. */
#define GECKO_GATE_SET_WATERMARK 1 /* only forwards: a late or repeated word changes nothing */
#define GECKO_GATE_SET_RELEASED 2  /* the same */
#define GECKO_GATE_SET_TERM 4
#define GECKO_GATE_SET_FLAGS 8     /* adds `flags` */
#define GECKO_GATE_SET_UNCLAMPED 16 /* takes GECKO_GATE_F_CLAMP away */
struct gecko_gate_command {
	struct gecko_flow_key key;
	__s32 error;             /* answer: 0 or -ENOENT */
	__u32 what;              /* GECKO_GATE_SET_* */
	__u32 watermark;
	__u32 released;
	__u16 term;
	__u8 flags;
	__u8 pad;
	/* The entry afterwards. */
	__u32 now_watermark;
	__u32 sent_ack;
	__u32 sent_edge;
	__u32 kernel_ack;
	__u32 kernel_edge;
	__u32 snd_nxt;
	__u32 pad2;
	__u64 clock_ns;          /* the program's clock: user space checks that it reads the same one (time namespaces) */
};

/* A SYN-ACK as it was about to leave: the connection's initial sequence numbers and options. Its TCP checksum may be that of the pseudo header
 * alone (the NIC completes it). */
#define GECKO_BIRTH_PACKET 128
struct gecko_birth {
	struct gecko_flow_key key;
	__u16 lease;
	__u16 pad;
	__u16 length;
	__u16 pad2;
	__u8 packet[GECKO_BIRTH_PACKET]; /* from the IP header on */
};

/* On packets that geckod makes: an empty segment whose numbers the gate fills in. It leaves by the
 * neighbour table, by which they come to the gate twice; there the mark is taken off. Setting a mark needs CAP_NET_ADMIN. */
#define GECKO_GATE_MARK 0x6765636b
#define GECKO_GATE_MARK_ROUTED 0x6765636c /* the second time */
#define GECKO_GATE_STUB_TCP 32   /* bytes of its TCP header: room for the timestamps */

/* A clamped bare acknowledgement that says nothing new passes after so long a silence: it answers a probe. */
#define GECKO_GATE_SILENCE_NS 50000000ull

/* Counters: a per-CPU array of one row. */
enum gecko_gate_counter {
	GECKO_G_PASSED,          /* as it was */
	GECKO_G_CLAMPED,         /* acknowledgement lowered, window re-based */
	GECKO_G_STUB,            /* sent for geckod */
	GECKO_G_BORN,            /* SYN-ACK reported */
	/* Dropped: */
	GECKO_G_HELD_ACK,        /* bare acknowledgement of bytes that are not stable */
	GECKO_G_HELD_SYNACK,     /* acknowledges bytes that are not stable (TCP Fast Open) */
	GECKO_G_STUB_NEEDLESS,   /* the client knows already */
	GECKO_G_OUTPUT,          /* output above `released` */
	GECKO_G_EXPIRED,         /* no lease */
	GECKO_G_FENCED,          /* protected under an older term */
	GECKO_G_NO_ENTRY,        /* of a protected port, of a connection nobody has named */
	GECKO_G_END,             /* FIN or RST its owner has not asked for */
	GECKO_G_UNREADABLE,      /* fragment or header chain from an address with protected ports */
	/* Not dropped: */
	GECKO_G_BIRTH_LOST,      /* nobody reads the births */
	GECKO_G_MOVED_LOST,      /* nobody reads which connections have moved */
	GECKO_G_COUNT
};
