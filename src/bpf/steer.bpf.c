/* The steering driver `forward`: which node gets a packet (docs/protocol/steering.md).
 *
 * Three programs: gecko_ingress and gecko_egress on the network interface, gecko_hold on the TUN device through which user space
 * holds, releases and injects packets. Everything that is not for or from a group's address is left alone. */
#include "steer/action.h"
#include "steer/ahead.h"
#include "steer/mss.h"

static __always_inline struct gecko_underlay *find_underlay(const __u8 *address)
{
	return bpf_map_lookup_elem(&gecko_underlays, address);
}

/* An answer that a node sends home through us, the contact: on to the client. */
static __always_inline int send_from_home(struct __sk_buff *skb, struct packet *p)
{
	union ip_start start = p->start;

	if (p->hop_limit <= 1)
		return drop(GECKO_C_HOP_LIMIT);
	decrement_hops(&start, p);
	/* Before decapsulate, which may mark congestion in the same bytes. */
	if (bpf_skb_store_bytes(skb, p->l3, &start, sizeof start, BPF_F_RECOMPUTE_CSUM) || decapsulate(skb, p))
		return drop(GECKO_C_ENCAP_FAILED);
	count(GECKO_C_RETURNED_HOME);
	return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}

SEC("tc")
int gecko_ingress(struct __sk_buff *skb)
{
	struct packet p = { .l3 = ETH_HLEN, .version = ip_version(skb) };
	const struct gecko_address *address;
	struct decision d;
	int kind, known_peer = 1;

	/* A flooding switch shows us frames of our neighbours; acting on them would duplicate packets. */
	if (!p.version || skb->pkt_type != PACKET_HOST)
		return VERDICT_PASS;
	if (read_ip(skb, &p)) {
		count(GECKO_C_MALFORMED);
		return VERDICT_PASS;
	}
	if (IS_V6(&p) && (p.proto == IPPROTO_IPV6 || p.proto == IPPROTO_IPIP)) {
		const struct gecko_underlay *self = find_underlay(p.key.local), *peer = find_underlay(p.key.peer);

		if (!self || !(self->flags & GECKO_UNDERLAY_F_SELF))
			return VERDICT_PASS;
		known_peer = peer && !(peer->flags & GECKO_UNDERLAY_F_SELF);
		p.outer = 1;
		p.outer_class = p.traffic_class;
		p.version = p.proto == IPPROTO_IPV6 ? 6 : 4;
		p.l3 += OUTER_BYTES;
		if (read_ip(skb, &p)) {
			count(GECKO_C_MALFORMED);
			return VERDICT_PASS;
		}
	}

	address = find_address(p.key.local);
	if (!address) {
		if (!p.outer || !known_peer)
			return VERDICT_PASS;
		address = find_address(p.key.peer);
		if (!address || (address->flags & (GECKO_GROUP_F_CONTACT | GECKO_GROUP_F_RETURN_HOME)) != (GECKO_GROUP_F_CONTACT | GECKO_GROUP_F_RETURN_HOME))
			return VERDICT_PASS;
		return send_from_home(skb, &p);
	}
	if (!known_peer)
		return drop(GECKO_C_NOT_A_PEER);

	kind = read_transport(skb, &p);
	if (kind == TRANSPORT_MALFORMED)
		count(GECKO_C_MALFORMED);
	if (kind <= TRANSPORT_OTHER)
		return do_pass(skb, &p);

	d = decide(skb, &p, address, kind, 0);
	if (d.action == ACTION_FORWARD && too_big(skb, &p, address->encap_mtu)) {
		d.action = ACTION_HOLD; /* user space answers Packet Too Big */
		d.reason = GECKO_C_TOO_BIG;
	}
	count(d.reason);
	if (d.action == ACTION_DROP)
		return VERDICT_DROP;
	if (kind == TRANSPORT_TCP && address->flags & GECKO_GROUP_F_RETURN_HOME)
		clamp_mss(skb, &p, address->mss_max);
	if (d.action == ACTION_HOLD)
		return do_hold(skb, &p);
	if (d.action == ACTION_FORWARD)
		return do_forward(skb, &p, address->self, d.node, skb->ifindex);
	if (d.recovered && kind == TRANSPORT_TCP)
		lower_ack(skb, &p);
	return do_pass(skb, &p);
}

/* What user space writes to the hold device: held packets on their way on, injected ones, and Packet Too Big for clients. */
SEC("tc")
int gecko_hold(struct __sk_buff *skb)
{
	struct packet p = { .version = ip_version(skb) };
	const struct gecko_address *address;
	const struct gecko_config *c = config();
	struct decision d;
	int kind;

	if (!p.version || !c)
		return VERDICT_PASS;
	if (read_ip(skb, &p)) {
		count(GECKO_C_MALFORMED);
		return VERDICT_PASS;
	}
	address = find_address(p.key.local);
	if (!address) {
		/* Outwards only in a group's name: who holds the device does not speak for others. */
		if (!find_address(p.key.peer))
			return drop(GECKO_C_NOT_A_PEER);
		if (add_ethernet(skb, &p))
			return drop(GECKO_C_ENCAP_FAILED);
		return bpf_redirect_neigh(c->nic_ifindex, 0, 0, 0);
	}
	kind = read_transport(skb, &p);
	if (kind == TRANSPORT_MALFORMED)
		count(GECKO_C_MALFORMED);
	if (kind <= TRANSPORT_OTHER)
		return VERDICT_PASS;
	d = decide(skb, &p, address, kind, 1);
	/* Not back to the hold device: that would be a loop. User space has looked at the size before. */
	if (d.action == ACTION_FORWARD && too_big(skb, &p, address->encap_mtu))
		return drop(GECKO_C_TOO_BIG);
	count(d.reason);
	if (d.action != ACTION_FORWARD) {
		if (d.recovered && kind == TRANSPORT_TCP)
			lower_ack(skb, &p);
		return VERDICT_PASS;
	}
	if (add_ethernet(skb, &p))
		return drop(GECKO_C_ENCAP_FAILED);
	return do_forward(skb, &p, address->self, d.node, c->nic_ifindex);
}

/* Addresses that never leave the link: not for the contact to carry. */
static __always_inline int is_link_scoped(const struct packet *p)
{
	const __u8 *to = p->key.local;

	if (IS_V6(p))
		return to[0] == 0xff || (to[0] == 0xfe && (to[1] & 0xc0) == 0x80);
	return to[12] >= 224 || (to[12] == 169 && to[13] == 254);
}

/* What this node sends from a group's address. */
SEC("tc")
int gecko_egress(struct __sk_buff *skb)
{
	struct packet p = { .l3 = ETH_HLEN, .version = ip_version(skb) };
	const struct gecko_address *address;
	int kind, home;
	__u8 flags;

	if (!p.version || read_ip(skb, &p))
		return VERDICT_PASS;
	/* Tunnels, ours above all, are not sent by a group. */
	if (IS_V6(&p) && (p.proto == IPPROTO_IPV6 || p.proto == IPPROTO_IPIP))
		return VERDICT_PASS;
	address = find_address(p.key.peer); /* the source */
	if (!address)
		return VERDICT_PASS;
	home = address->flags & GECKO_GROUP_F_RETURN_HOME && address->self != address->contact;
	/* Nearly every packet: not a SYN, and going straight to the client. */
	if (!home && p.proto == IPPROTO_TCP && !bpf_skb_load_bytes(skb, p.l4 + 13, &flags, 1) && !(flags & TCP_SYN))
		return VERDICT_PASS;
	kind = locate_transport(skb, &p);
	if (kind == TRANSPORT_TCP && p.proto == IPPROTO_TCP && p.fragment != FRAGMENT_LATER && read_tcp(skb, &p) == TRANSPORT_TCP)
		clamp_mss(skb, &p, address->mss_max);
	if (!home || is_link_scoped(&p))
		return VERDICT_PASS;
	if (too_big(skb, &p, address->encap_mtu)) {
		count(GECKO_C_TOO_BIG);
		return do_hold(skb, &p); /* user space tells our own stack */
	}
	if (encapsulate(skb, &p, address->self, address->contact, 0))
		return drop(GECKO_C_ENCAP_FAILED);
	count(GECKO_C_RETURNED_HOME);
	return send_to_node(address->contact, skb->ifindex);
}

/* How often a packet may come in between while an entry is being changed. */
#define SET_TRIES 16

static __always_inline int switch_flow(struct gecko_flow *flow, const struct gecko_flow_command *command)
{
	union control old, now = { .node = command->node, .state = command->state, .flags = command->flags };
	int i;

	for (i = 0; i < SET_TRIES; i++) {
		old = control_of(flow);
		if (command->how == GECKO_SET_IF_TAKEN && old.state == GECKO_FLOW_HOLD && after(old.held, command->taken))
			return -11; /* EAGAIN */
		now.held = command->how == GECKO_SET_KEEP_HELD ? old.held : 0;
		if (__sync_val_compare_and_swap(CONTROL_WORD(flow), old.word, now.word) == old.word)
			return 0;
	}
	return -16; /* EBUSY */
}

/* FlowTable::set: see struct gecko_flow_command. */
SEC("syscall")
int gecko_set(struct gecko_flow_command *command)
{
	struct gecko_flow_key key = command->key;
	struct gecko_flow *flow = bpf_map_lookup_elem(&gecko_flows, &key);
	const __u64 now = bpf_ktime_get_ns(); /* what user space has just confirmed is not old, even if no packet has passed */

	command->error = 0;
	if (!flow) {
		struct gecko_flow fresh = { .epoch = command->epoch, .last_seen_ns = now, .node = command->node, .state = command->state, .flags = command->flags };

		command->flow = fresh;
		command->error = bpf_map_update_elem(&gecko_flows, &key, &fresh, BPF_NOEXIST);
		/* From here on its owner is known: where its SYN went must not come back when this entry goes. */
		if (!command->error)
			bpf_map_delete_elem(&gecko_news, &key);
		if (command->error != -17 /* EEXIST: a SYN was faster */)
			return 0;
		flow = bpf_map_lookup_elem(&gecko_flows, &key);
		if (!flow)
			return 0;
	}
	command->error = switch_flow(flow, command);
	if (!command->error) {
		flow->epoch = command->epoch;
		flow->last_seen_ns = now;
	}
	command->flow = *flow;
	return 0;
}

/* Does this kernel know the DECAP_L3 flags? The loader runs this once on an IPv4-in-IPv6 packet. */
SEC("tc")
int gecko_probe(struct __sk_buff *skb)
{
	return bpf_skb_adjust_room(skb, -(__s32)OUTER_BYTES, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_DECAP_L3_IPV4) ? 1 : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
