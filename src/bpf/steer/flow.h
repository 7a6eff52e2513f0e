/* What to do with a packet for a group: the flow table, the SYN policy, and what nobody knows. Decides only; action.h does. */
#pragma once

#include "steer/policy.h"
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
	__u8 recovered; /* the connection had a node that died */
};

/* held, node, state and flags are read and changed as one word: user space switches a flow while packets of it are under way. */
union control {
	struct {
		__u32 held;
		__u16 node;
		__u8 state;
		__u8 flags;
	};
	__u64 word;
};
_Static_assert(__builtin_offsetof(struct gecko_flow, held) % 8 == 0, "one atomic word");
#define CONTROL_WORD(flow) ((__u64 *)&(flow)->held)

static __always_inline union control control_of(const struct gecko_flow *flow)
{
	union control c = { .word = *(volatile const __u64 *)CONTROL_WORD(flow) };

	return c;
}

/* As control_of; and if it says HOLD, the packet has been counted as held. */
static __always_inline union control hold_control_of(struct gecko_flow *flow)
{
	union control c = control_of(flow);

	/* `held` is the lower half: it does not run over into the rest in the time of one hold. */
	if (c.state == GECKO_FLOW_HOLD)
		c.word = __sync_fetch_and_add(CONTROL_WORD(flow), 1);
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
	struct decision d = { .node = control.node, .recovered = flow->epoch >= GECKO_RECOVERED_EPOCHS };
	__u64 now;

	__sync_fetch_and_add(&flow->packets, 1);
	d.action = ACTION_PASS;
	d.reason = GECKO_C_PASSED;
	/* "Forward to me" is a hint that has come true: pass. */
	if (control.node != self && (control.state == GECKO_FLOW_FORWARD || (control.state == GECKO_FLOW_HOLD && from_hold))) {
		now = bpf_ktime_get_coarse_ns(); /* only ages entries here; the exact clock costs as much as a map lookup */
		d.action = ACTION_FORWARD;
		d.reason = from_hold ? GECKO_C_RELEASED : GECKO_C_FORWARDED;
	} else if (control.state == GECKO_FLOW_HOLD && !from_hold) {
		const struct gecko_config *c = config();

		now = bpf_ktime_get_ns();
		if (!c || !c->holder_seen_ns || now < c->holder_seen_ns + GECKO_HOLDER_DEAD_NS) {
			d.action = ACTION_HOLD;
			d.reason = GECKO_C_HELD;
		}
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

static const struct decision kPass = { .action = ACTION_PASS, .reason = GECKO_C_PASSED };

/* Linux gives up a half-open connection after 63 s (5 repetitions of the SYN-ACK). Older: the next SYN is a new connection. */
#define NEW_FLOW_NS 75000000000ull

/* Where the SYN of this connection went. */
static __always_inline int decide_new(const struct packet *p, int kind, struct decision *d)
{
	struct gecko_new_flow *recent = bpf_map_lookup_elem(&gecko_news, &p->key);
	__u64 now;

	if (!recent)
		return 0;
	now = bpf_ktime_get_coarse_ns();
	if (now - recent->last_seen_ns > NEW_FLOW_NS && now > recent->last_seen_ns) {
		bpf_map_delete_elem(&gecko_news, &p->key);
		return 0;
	}
	recent->last_seen_ns = now;
	if (kind == TRANSPORT_ICMP_ERROR)
		count(GECKO_C_ICMP_STEERED);
	d->action = ACTION_FORWARD;
	d->reason = GECKO_C_FORWARDED;
	d->node = recent->node;
	return 1;
}

/* A new connection. Only a contact with a policy does more than accept it here. */
static __always_inline struct decision decide_syn(struct __sk_buff *skb, const struct packet *p)
{
	const struct gecko_group *group = find_group(p);
	struct decision d = kPass;
	struct gecko_new_flow recent = {};
	__u32 node;
	int error;

	if (!group || (group->flags & (GECKO_GROUP_F_CONTACT | GECKO_GROUP_F_SYN_POLICY)) != (GECKO_GROUP_F_CONTACT | GECKO_GROUP_F_SYN_POLICY))
		return d;
	/* A SYN that was kept here leaves no entry; its retransmission must not start a second connection elsewhere. */
	if (kernel_knows(skb, p))
		return d;
	node = choose_node(group, p);
	if (node == group->self || !node_of(node))
		return d;
	recent.node = node;
	recent.last_seen_ns = bpf_ktime_get_coarse_ns();
	error = bpf_map_update_elem(&gecko_news, &p->key, &recent, BPF_NOEXIST);
	if (error == -17 /* EEXIST: the same SYN on another CPU */) {
		const struct gecko_new_flow *other = bpf_map_lookup_elem(&gecko_news, &p->key);

		if (other)
			node = other->node;
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

/* Without an entry, and not new. What another node has sent here is never sent on: two nodes with different beliefs would play ball with it. */
static __always_inline struct decision decide_unknown(struct __sk_buff *skb, const struct packet *p, const struct gecko_address *address, int kind)
{
	const int owner = outbound_owner(address, p);
	__u32 contact = address->flags & GECKO_GROUP_F_CONTACT, contact_node = address->contact;
	struct decision d = kPass;
	int to = -1;

	if (owner < 0) {
		/* Groups that share an address may have different contacts. */
		const struct gecko_group *group = find_group(p);

		if (!group)
			return d;
		contact = group->flags & GECKO_GROUP_F_CONTACT;
		contact_node = group->contact;
	}
	if (!contact && p->outer && owner != address->self)
		return d;
	if (kind == TRANSPORT_TCP && kernel_knows(skb, p))
		return d;
	/* Not the contact, and yet the router has sent it to us: we were the contact, and somebody has missed the news. */
	if (owner != address->self)
		to = contact ? owner : (int)contact_node;
	if (to < 0) {
		/* A moved connection of our slice whose owner nobody has named for long, or a flow that a former contact knew. */
		if (kind == TRANSPORT_TCP) {
			d.action = ACTION_HOLD;
			d.reason = GECKO_C_UNKNOWN_HELD;
		}
		return d;
	}
	if (to == address->self || !node_of(to))
		return d;
	if (kind == TRANSPORT_ICMP_ERROR)
		count(GECKO_C_ICMP_STEERED);
	d.action = ACTION_FORWARD;
	d.reason = GECKO_C_FORWARDED;
	d.node = to;
	return d;
}

static __always_inline struct decision decide(struct __sk_buff *skb, const struct packet *p, const struct gecko_address *address, int kind,
					      int from_hold)
{
	const int syn = kind == TRANSPORT_TCP && is_pure_syn(p);
	struct gecko_flow *flow = bpf_map_lookup_elem(&gecko_flows, &p->key);
	struct decision d = kPass;

	if (flow) {
		const union control control = from_hold ? control_of(flow) : hold_control_of(flow);
		/* The old connection is over (or was nobody's): the entry must not catch the rest of the new handshake either. */
		const int over = control.state == GECKO_FLOW_KERNEL || (control.state == GECKO_FLOW_FORWARD && control.flags & GECKO_FLOW_F_CLOSING);

		if (!syn || !over || from_hold)
			return decide_known(flow, control, p, kind, address->self, from_hold);
		bpf_map_delete_elem(&gecko_flows, &p->key);
		bpf_map_delete_elem(&gecko_news, &p->key);
	}
	if (from_hold) {
		d.reason = GECKO_C_RELEASED;
		return d;
	}
	/* What another node has sent here is not sent on (decide_unknown), but the contact is who has to know. */
	if ((!p->outer || address->flags & GECKO_GROUP_F_CONTACT) && decide_new(p, kind, &d))
		return d;
	return syn ? decide_syn(skb, p) : decide_unknown(skb, p, address, kind);
}
