/* What the steering programs (steer.bpf.c) and user space agree on: map layouts. C, shared with eBPF.
 * Addresses are 16 bytes in network order, IPv4 v4-mapped; ports are in network order. */
#pragma once

#ifndef __bpf__
#include <linux/types.h>
#endif

#define GECKO_MAX_GROUPS 64
#define GECKO_MAX_NODES 256
#define GECKO_MAX_FLOWS 262144   /* entries on one node: own connections + hints of a contact */
#define GECKO_MAX_NEW_FLOWS 65536 /* SYNs on their way to other nodes (LRU: displaced by newer ones, their flows are asked for) */
#define GECKO_SYN_SLOTS 4096     /* choice table of a group; a power of two */
#define GECKO_NODE_WORDS (GECKO_MAX_NODES / 64) /* a set of nodes, one bit each */
#define GECKO_MAX_NEARS 16384    /* client networks whose nearest nodes are known, of all groups */
#define GECKO_MAX_PORTS 4096     /* (address, port) pairs of all groups of a node */
#define GECKO_MAX_FRAGMENTS 4096 /* fragmented packets remembered at once (LRU: a lost one costs one retransmission) */

struct gecko_flow_key {
	__u8 local[16];          /* the group's address */
	__u8 peer[16];           /* the client */
	__be16 local_port;
	__be16 peer_port;
};

enum gecko_flow_state {
	GECKO_FLOW_MINE = 1,     /* this node owns it: pass up */
	GECKO_FLOW_FORWARD = 2,  /* encapsulate to `node` */
	GECKO_FLOW_HOLD = 3,     /* to the hold device; packets coming *from* it follow `node` (own index: pass up) */
	GECKO_FLOW_KERNEL = 4,   /* nobody's: the kernel may answer (RST) */
};

#define GECKO_RECOVERED_EPOCHS (1ULL << 20) /* each recovery of a connection adds so much to its epoch, a move adds 1 */
#define GECKO_AHEAD_MAX (32U << 20) /* bytes of a dead node that a client may have and its heir has not sent: no send queue is longer (wire/tcp_state.hh) */

#define GECKO_FLOW_F_CLOSING 2   /* ended at its owner: a new SYN starts a new connection */

struct gecko_flow {
	__u64 epoch;             /* of the ownership this entry came from */
	__u64 last_seen_ns;      /* CLOCK_MONOTONIC of the last packet or change by user space; up to a clock tick (10 ms) early while forwarding */
	__u64 last_passed_ns;    /* ... of the last packet passed up: the freeze barrier waits for it */
	__u64 packets;
	__u32 max_end_seq;       /* highest sequence number + length passed up (a hole is there while rcv_nxt is below) */
	__u32 pad;
	/* One word of eight bytes, aligned. Who switches the flow on compares `held` with what he has read from the hold device: as long as
	 * there are packets between this table and the device, a newer one must not pass them. */
	__u32 held;              /* packets sent to the hold device since the entry says so; wraps */
	__u16 node;              /* index into the node table */
	__u8 state;              /* enum gecko_flow_state */
	__u8 flags;
};

/* A new connection that a SYN started on another node, until its owner says so (a hint makes a gecko_flow of it). */
struct gecko_new_flow {
	__u64 last_seen_ns;
	__u16 node;
	__u16 pad[3];
};

struct gecko_group_key {         /* one entry per (address, port) */
	__u8 address[16];
	__be16 port;
	__u16 pad;
};

#define GECKO_GROUP_F_CONTACT 1      /* this node answers for unknown flows */
#define GECKO_GROUP_F_RETURN_HOME 2  /* answers leave through the contact */
#define GECKO_GROUP_F_SYN_POLICY 4   /* new connections are spread by the slot table, here at the first SYN */
#define GECKO_GROUP_F_PORT_SLOTS 8   /* ... by the port's own table (gecko_port_slots), not the group's */

struct gecko_group {
	__u16 index;             /* row in the slot tables */
	__u16 contact;           /* node index of the contact */
	__u16 self;              /* node index of this node */
	__u16 flags;
	__u16 fallback;          /* a node that serves this port, where the slot table is full of others */
	__u16 pad;
	__u16 mss_max;           /* clamp in SYN and SYN-ACK, bytes; 0: none */
	__u16 encap_mtu;         /* largest inner packet that fits the node network after encapsulation; 0: not checked */
	__u64 serves[GECKO_NODE_WORDS]; /* nodes that have an application for this port */
};

/* Who gets the next new connection of a group (row `gecko_group.index` of an array) or of one of its ports (gecko_port_slots). A weight is a number of slots. */
#define GECKO_SLOTS_RANDOM 0
#define GECKO_SLOTS_ROUND_ROBIN 1
#define GECKO_SLOTS_CLIENT 2     /* by a hash of the client's address */
#define GECKO_SLOTS_NEAREST 3    /* at random among the nodes near the client, if they are known */
struct gecko_slots {
	__u32 next;              /* round robin: written by the program */
	__u16 count;             /* how many of node[] are in use */
	__u16 mode;              /* GECKO_SLOTS_* */
	__u16 node[GECKO_SYN_SLOTS];
};

/* The nodes near the clients of a network: IPv4 /24, IPv6 /48, the rest of the address zero. */
struct gecko_near_key {
	__u8 prefix[16];
	__u32 group;             /* row of the slot tables */
};
struct gecko_near {
	__u64 nodes[GECKO_NODE_WORDS];
	__u16 best;
	__u16 pad[3];
};

/* An address of a group, for packets to ports that are not service ports: connections made *from* the group address use
 * ports of a range that is divided evenly among the nodes, so that the contact needs no state for them. */
struct gecko_address {
	__u16 outbound_first;    /* host order; 0: none */
	__u16 outbound_each;     /* ports per node */
	__u16 outbound_nodes;    /* how many nodes share the range */
	__u16 self;
	__u16 flags;             /* GECKO_GROUP_F_CONTACT, GECKO_GROUP_F_RETURN_HOME */
	__u16 contact;
	__u16 mss_max;
	__u16 encap_mtu;
	__u16 outbound_node[GECKO_MAX_NODES];  /* node index by slice */
};

struct gecko_ip {
	__u8 bytes[16];
};

struct gecko_node {
	__u8 underlay[16];       /* IPv6 address packets are encapsulated to; zero: unknown node */
	__u32 onlink_ifindex;    /* interface whose neighbour it is: no route lookup per packet; 0: ask the routing table */
	__u32 pad;
};

/* The node table by address: who may send us encapsulated packets, and to which of our addresses. */
#define GECKO_UNDERLAY_F_SELF 1  /* this node's own address */
struct gecko_underlay {
	__u16 node;
	__u16 flags;
};

/* Changes an entry in place: argument and answer of the program gecko_set (BPF_PROG_RUN). An update from user space would
 * replace the whole entry, and with it what the programs noted about a packet that passes at the same moment. */
#define GECKO_SET_ALWAYS 0       /* `held` begins at 0 */
#define GECKO_SET_KEEP_HELD 1    /* `held` goes on */
#define GECKO_SET_IF_TAKEN 2     /* only if no more than `taken` packets were held: -EAGAIN */
struct gecko_flow_command {
	struct gecko_flow_key key;
	__s32 error;             /* answer: 0 or a negative errno; -E2BIG: table full; -EAGAIN, -EBUSY: nothing has been changed */
	__u64 epoch;
	__u16 node;
	__u8 state;
	__u8 flags;
	__u32 how;               /* GECKO_SET_* */
	__u32 taken;
	__u32 pad;
	struct gecko_flow flow;  /* answer: the entry afterwards */
};

/* One row, written by the loader. */
#define GECKO_CONFIG_F_DECAP_FLAGS 1  /* bpf_skb_adjust_room knows the DECAP_L3 flags (kernel >= 6.3) */
struct gecko_config {
	__u32 hold_ifindex;      /* the TUN held packets go to; 0: they are dropped */
	__u32 nic_ifindex;       /* where packets written to the hold device leave */
	__u32 flags;
	__u32 pad;
	__u64 holder_seen_ns;    /* CLOCK_MONOTONIC, written by the privileged half every second; 0: not watched */
};

/* Nobody has drained the hold device for so long: no geckod runs, and none that starts now can bring back what was half made here,
 * because a donor waits 16 s for its acceptor (core/handoff.hh: give_up and one last call). The kernel answers: a frozen socket is
 * deaf, a living one is right, and where there is none the client hears so instead of hanging. */
#define GECKO_HOLDER_DEAD_NS 17000000000ULL

/* A later fragment carries no ports: what its first fragment said. */
struct gecko_fragment_key {
	__u8 local[16];
	__u8 peer[16];
	__u32 id;                /* as in the packet; IPv4: 16 bits */
	__u32 proto;             /* IPv4 only */
};
struct gecko_fragment {
	__be16 local_port;
	__be16 peer_port;
};

/* Counters: a per-CPU array of one row, GECKO_C_COUNT times __u64 in the order of gecko_counter. */
enum gecko_counter {
	GECKO_C_PASSED, GECKO_C_FORWARDED, GECKO_C_DECAPSULATED, GECKO_C_HELD, GECKO_C_RELEASED, GECKO_C_RETURNED_HOME,
	GECKO_C_SYN_STEERED, GECKO_C_SYN_REFUSED_FULL, GECKO_C_UNKNOWN_HELD, GECKO_C_TOO_BIG, GECKO_C_MALFORMED,
	GECKO_C_FRAGMENTS, GECKO_C_ICMP_STEERED, GECKO_C_HOP_LIMIT, GECKO_C_NOT_A_PEER, GECKO_C_MSS_CLAMPED, GECKO_C_ENCAP_FAILED,
	GECKO_C_ACK_LOWERED,
	GECKO_C_COUNT
};
