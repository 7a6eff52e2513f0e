/* What to do with a packet for a group: the flow table, the SYN policy, and what nobody knows. Decides only; action.h does. */
#pragma once

#include "steer/socket.h"

enum action {
	ACTION_PASS,    /* to this machine's stack */
	ACTION_FORWARD, /* encapsulated to `node` */
	ACTION_HOLD,    /* to the hold device */
	ACTION_DROP,
};

struct decision {
	__u16 node;
	__u8 action;
	__u8 reason; /* enum gecko_counter */
};

/* node, state and flags are read and changed as one word: user space switches a flow while packets of it are under way. */
union control {
	struct {
		__u16 node;
		__u8 state;
		__u8 flags;
	};
	__u32 word;
};
#define CONTROL_WORD(flow) ((__u32 *)&(flow)->node)

static __always_inline union control control_of(const struct gecko_flow *flow)
{
	union control c = { .word = *(volatile const __u32 *)CONTROL_WORD(flow) };

	return c;
}

static __always_inline int after(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

static __always_inline void note_passed(struct gecko_flow *flow, const struct packet *p, int kind, __u64 now)
{
	/* Fragments and errors say nothing about the end of the stream. */
	if (kind != TRANSPORT_TCP || p->fragment != FRAGMENT_NONE)
		return;
	if (!flow->last_passed_ns || after(p->end_seq, flow->max_end_seq))
		flow->max_end_seq = p->end_seq;
	flow->last_passed_ns = now;
}

static __always_inline struct decision decide_known(struct gecko_flow *flow, union control control, const struct packet *p, int kind,
						    __u32 self, int from_hold)
{
	struct decision d = { .node = control.node };
	__u64 now;

	__sync_fetch_and_add(&flow->packets, 1);
	if (control.flags & GECKO_FLOW_F_SYN && !is_pure_syn(p)) {
		const union control mask = { .node = 0xffff, .state = 0xff, .flags = (__u8)~GECKO_FLOW_F_SYN };

		__sync_fetch_and_and(CONTROL_WORD(flow), mask.word);
	}
	d.action = ACTION_PASS;
	d.reason = GECKO_C_PASSED;
	/* "Forward to me" is a hint that has come true: pass. */
	if (control.node != self && (control.state == GECKO_FLOW_FORWARD || (control.state == GECKO_FLOW_HOLD && from_hold))) {
		now = bpf_ktime_get_coarse_ns(); /* only ages entries here; the exact clock costs as much as a map lookup */
		d.action = ACTION_FORWARD;
		d.reason = from_hold ? GECKO_C_RELEASED : GECKO_C_FORWARDED;
	} else if (control.state == GECKO_FLOW_HOLD && !from_hold) {
		now = bpf_ktime_get_ns();
		d.action = ACTION_HOLD;
		d.reason = GECKO_C_HELD;
	} else {
		now = bpf_ktime_get_ns();
		if (from_hold)
			d.reason = GECKO_C_RELEASED;
		note_passed(flow, p, kind, now);
	}
	flow->last_seen_ns = now;
	if (kind == TRANSPORT_ICMP_ERROR)
		count(GECKO_C_ICMP_STEERED);
	return d;
}

static __always_inline struct gecko_group *find_group(const struct packet *p)
{
	struct gecko_group_key key = { .port = p->key.local_port };

	__builtin_memcpy(key.address, p->key.local, 16);
	return bpf_map_lookup_elem(&gecko_groups, &key);
}

static __always_inline __u32 choose_node(const struct gecko_group *group)
{
	__u32 index = group->index, i;
	struct gecko_slots *slots = bpf_map_lookup_elem(&gecko_slots, &index);

	if (!slots || !slots->count)
		return group->self;
	i = slots->mode == GECKO_SLOTS_ROUND_ROBIN ? __sync_fetch_and_add(&slots->next, 1) : bpf_get_prandom_u32();
	i %= slots->count;
	return slots->node[i & (GECKO_SYN_SLOTS - 1)];
}

static const struct decision kPass = { .action = ACTION_PASS, .reason = GECKO_C_PASSED };

/* A new connection. Only a contact with a policy does more than accept it here. */
static __always_inline struct decision decide_syn(struct __sk_buff *skb, const struct packet *p)
{
	const struct gecko_group *group = find_group(p);
	struct decision d = kPass;
	struct gecko_flow flow = {};
	__u32 node;
	int error;

	if (!group || (group->flags & (GECKO_GROUP_F_CONTACT | GECKO_GROUP_F_SYN_POLICY)) != (GECKO_GROUP_F_CONTACT | GECKO_GROUP_F_SYN_POLICY))
		return d;
	/* A SYN that was kept here leaves no entry; its retransmission must not start a second connection elsewhere. */
	if (kernel_knows(skb, p))
		return d;
	node = choose_node(group);
	if (node == group->self || !node_of(node))
		return d;
	flow.state = GECKO_FLOW_FORWARD;
	flow.flags = GECKO_FLOW_F_SYN;
	flow.node = node;
	flow.packets = 1;
	flow.last_seen_ns = bpf_ktime_get_ns();
	error = bpf_map_update_elem(&gecko_flows, &p->key, &flow, BPF_NOEXIST);
	if (error == -17 /* EEXIST: the same SYN on another CPU */) {
		const struct gecko_flow *other = bpf_map_lookup_elem(&gecko_flows, &p->key);

		if (other && control_of(other).state == GECKO_FLOW_FORWARD)
			node = control_of(other).node;
	} else if (error) {
		d.action = ACTION_DROP;
		d.reason = GECKO_C_SYN_REFUSED_FULL;
		return d;
	}
	d.action = ACTION_FORWARD;
	d.node = node;
	d.reason = GECKO_C_SYN_STEERED;
	return d;
}

/* Connections made from the group's address: their local port says who made them. -1: not such a port. */
static __always_inline int outbound_owner(const struct gecko_address *address, const struct packet *p)
{
	const __u32 port = bpf_ntohs(p->key.local_port);
	__u64 slice;

	if (!address->outbound_first || port < address->outbound_first || !address->outbound_each)
		return -1;
	slice = (port - address->outbound_first) / address->outbound_each;
	if (slice >= address->outbound_nodes || slice >= GECKO_MAX_NODES)
		return -1;
	/* The verifier forgets the upper half of what a 32-bit comparison proved; the compiler would drop a plain mask. */
	asm volatile("%0 &= 255" : "+r"(slice));
	return address->outbound_node[slice];
}

static __always_inline struct decision decide_unknown(struct __sk_buff *skb, const struct packet *p, const struct gecko_address *address, int kind)
{
	struct decision d = kPass;
	const struct gecko_group *group;
	int owner;

	if (!(address->flags & GECKO_GROUP_F_CONTACT))
		return d;
	owner = outbound_owner(address, p);
	if (owner >= 0) {
		if (owner == address->self || (kind == TRANSPORT_TCP && kernel_knows(skb, p)))
			return d;
		if (kind == TRANSPORT_ICMP_ERROR)
			count(GECKO_C_ICMP_STEERED);
		d.action = ACTION_FORWARD;
		d.reason = GECKO_C_FORWARDED;
		d.node = owner;
		return d;
	}
	if (kind == TRANSPORT_ICMP_ERROR)
		return d;
	group = find_group(p);
	if (!group || !(group->flags & GECKO_GROUP_F_CONTACT) || kernel_knows(skb, p))
		return d;
	d.action = ACTION_HOLD;
	d.reason = GECKO_C_UNKNOWN_HELD;
	return d;
}

static __always_inline struct decision decide(struct __sk_buff *skb, const struct packet *p, const struct gecko_address *address, int kind,
					      int from_hold)
{
	const int syn = kind == TRANSPORT_TCP && is_pure_syn(p);
	struct gecko_flow *flow = bpf_map_lookup_elem(&gecko_flows, &p->key);

	if (flow) {
		const union control control = control_of(flow);
		/* The old connection is over (or was nobody's): the entry must not catch the rest of the new handshake either. */
		const int over = control.state == GECKO_FLOW_KERNEL || (control.state == GECKO_FLOW_FORWARD && control.flags & GECKO_FLOW_F_CLOSING);

		if (!syn || !over || from_hold)
			return decide_known(flow, control, p, kind, address->self, from_hold);
		bpf_map_delete_elem(&gecko_flows, &p->key);
	}
	if (from_hold) {
		struct decision d = kPass;

		d.reason = GECKO_C_RELEASED;
		return d;
	}
	return syn ? decide_syn(skb, p) : decide_unknown(skb, p, address, kind);
}
