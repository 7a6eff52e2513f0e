/* The gate: what may leave a node (docs/adr/0018-gate.md).
 *
 * One program on the egress of the network interface, before the steering program: nothing of a protected port leaves without a lease, of
 * a connection that nobody has named, or of one that was protected under an older term; and a client is told "received" only of what the
 * backups have. Packets of other ports cost one look-up. */
#include "gate/rewrite.h"

static __always_inline const struct gecko_gate_port *find_port(const __u8 *address, __be16 port)
{
	struct gecko_group_key key = { .port = port };

	__builtin_memcpy(key.address, address, 16);
	return bpf_map_lookup_elem(&gecko_gports, &key);
}

/* The word of a lease that holds now; 0: none does. */
static __always_inline __u64 valid_lease(__u32 row, __u64 now)
{
	const struct gecko_lease *lease = bpf_map_lookup_elem(&gecko_leases, &row);
	__u64 word, deadline;

	if (!lease)
		return 0;
	word = *(volatile const __u64 *)&lease->word;
	deadline = word >> GECKO_LEASE_TERM_BITS;
	if (PLANTED(11))
		return word;
	if ((now >> GECKO_LEASE_UNIT_BITS) >= deadline)
		return 0;
	return deadline - (now >> GECKO_LEASE_UNIT_BITS) > (GECKO_LEASE_AHEAD_MAX_NS >> GECKO_LEASE_UNIT_BITS) ? 0 : word;
}

static __always_inline __u16 term_of(__u64 word)
{
	return word & ((1u << GECKO_LEASE_TERM_BITS) - 1);
}

static __always_inline int report_birth(struct __sk_buff *skb, const struct packet *p, const struct gecko_flow_key *key,
					const struct gecko_gate_port *port)
{
	__u32 length = p->length;
	struct gecko_birth *birth;

	if (length < sizeof(struct iphdr) + sizeof(struct tcphdr) || length > GECKO_BIRTH_PACKET)
		return -1;
	birth = bpf_ringbuf_reserve(&gecko_births, sizeof *birth, 0);
	if (!birth)
		return -1;
	birth->key = *key;
	birth->lease = port->lease;
	birth->pad = 0;
	birth->length = length;
	birth->pad2 = 0;
	asm volatile("" : "+r"(length)); /* the bounds stay with the register that the helper is given */
	if (length < 1 || length > GECKO_BIRTH_PACKET || bpf_skb_load_bytes(skb, p->l3, birth->packet, length)) {
		bpf_ringbuf_discard(birth, 0);
		return -1;
	}
	bpf_ringbuf_submit(birth, 0);
	count(GECKO_G_BORN);
	return 0;
}

/* A packet of a protected port, of a connection that geckod has not named. */
static __always_inline int judge_unknown(struct __sk_buff *skb, const struct packet *p, const struct gecko_flow_key *key,
					 const struct gecko_gate_port *port, __u16 term)
{
	struct gecko_young *young;

	if ((p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == (TCP_SYN | TCP_ACK)) {
		const struct gecko_young fresh = { .term = term };

		if (report_birth(skb, p, key, port))
			count(GECKO_G_BIRTH_LOST);
		bpf_map_update_elem(&gecko_young, key, &fresh, BPF_ANY);
		count(GECKO_G_PASSED);
		return VERDICT_PASS;
	}
	if (PLANTED(12)) {
		count(GECKO_G_PASSED);
		return VERDICT_PASS;
	}
	young = bpf_map_lookup_elem(&gecko_young, key);
	if (!young)
		return refuse(GECKO_G_NO_ENTRY);
	if (young->term != term)
		return refuse(GECKO_G_FENCED);
	if (!PLANTED(20))
		report_moved(key, &young->round); /* it lives, or wants to end: geckod names it now */
	if (p->tcp_flags & (TCP_RST | TCP_FIN))
		return refuse(GECKO_G_END);
	count(GECKO_G_PASSED);
	return VERDICT_PASS;
}

static __always_inline int is_marked(const struct __sk_buff *skb)
{
	return skb->mark == GECKO_GATE_MARK || skb->mark == GECKO_GATE_MARK_ROUTED;
}

/* Made by geckod: see GECKO_GATE_MARK. It comes by twice, because it needs the neighbour table, and gets its numbers the second time: then
 * nothing lies between what is noted as told and its leaving, and no packet of the kernel's can have told more of the window meanwhile. */
static __always_inline int send_marked(struct __sk_buff *skb, const struct packet *p, const struct gecko_flow_key *key, struct gecko_gated *g, __u64 now)
{
	struct stub_numbers n = {};
	union marks sent, stamps;
	int told = 0;

	if (p->length != p->l4 - p->l3 + sizeof(struct stub))
		return refuse(GECKO_G_UNREADABLE);
	for (int i = 0; i < ATTEMPTS && !told; i++) {
		sent = read_marks(&g->sent);
		n.announced = rebase(g, sent);
		if (!is_news(g, sent, n.announced) && !PLANTED(13))
			return refuse(GECKO_G_STUB_NEEDLESS);
		if (skb->mark == GECKO_GATE_MARK) {
			skb->mark = GECKO_GATE_MARK_ROUTED;
			return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
		}
		told = note_told(g, sent, n.announced.ack, edge_of(g, n.announced));
	}
	if (!told)
		return refuse(GECKO_G_STUB_NEEDLESS); /* others are telling it all the time */
	stamps = read_marks(&g->stamps);
	n.seq = g->snd_nxt;
	n.ts_value = stamps.ack;
	n.ts_echo = stamps.edge;
	n.seen = g->seen;
	g->passed_ns = now;
	skb->mark = 0;
	if (fill_stub(skb, p, key, &n))
		return refuse(GECKO_G_UNREADABLE);
	count(GECKO_G_STUB);
	return VERDICT_PASS;
}

static __always_inline int judge_known(struct __sk_buff *skb, const struct packet *p, const struct gecko_flow_key *key, const struct tcphdr *tcp,
				       struct gecko_gated *g, __u64 now)
{
	struct segment s = {};
	struct announced a = {};
	enum judgement j;

	read_segment(skb, p, tcp, g->window_scale & 15, &s);
	read_socket(skb, &s);
	j = judge(g, &s, now, &a);
	if ((j == JUDGE_PASS || j == JUDGE_CLAMP) && !PLANTED(19))
		report_moved(key, &g->round);
	switch (j) {
	case JUDGE_PASS:
		count(GECKO_G_PASSED);
		return VERDICT_PASS;
	case JUDGE_CLAMP:
		if (clamp(skb, p, tcp, &s, a))
			return refuse(GECKO_G_UNREADABLE);
		count(GECKO_G_CLAMPED);
		return VERDICT_PASS;
	case JUDGE_HOLD:
		return swallow(GECKO_G_HELD_ACK);
	case JUDGE_SYNACK:
		return swallow(GECKO_G_HELD_SYNACK);
	default:
		return refuse(GECKO_G_OUTPUT);
	}
}

/* Geckod's own packets are of protected connections, or none of its business. */
static __always_inline int not_protected(const struct __sk_buff *skb)
{
	return is_marked(skb) ? refuse(GECKO_G_NO_ENTRY) : VERDICT_PASS;
}

SEC("tc")
int gecko_gate(struct __sk_buff *skb)
{
	struct packet p = { .l3 = ETH_HLEN, .version = ip_version(skb) };
	const struct gecko_gate_port *port;
	struct gecko_flow_key key;
	struct gecko_gated *g;
	struct tcphdr tcp;
	__u64 now, lease;
	int kind;

	/* What came in by an interface was let out by its own node's gate: we are its router, or its contact (return = home). */
	if (!p.version || skb->ingress_ifindex || read_ip(skb, &p))
		return not_protected(skb);
	kind = locate_tcp(skb, &p);
	if (kind == READ_OTHER)
		return not_protected(skb);
	if (kind == READ_UNREADABLE || read_header(skb, &p, &tcp))
		return find_port(p.key.peer, 0) ? refuse(GECKO_G_UNREADABLE) : not_protected(skb);
	port = find_port(p.key.peer, tcp.source);
	if (!port)
		return not_protected(skb);

	now = bpf_ktime_get_boot_ns();
	lease = valid_lease(port->lease, now);
	if (!lease)
		return refuse(GECKO_G_EXPIRED);
	__builtin_memcpy(key.local, p.key.peer, 16);
	__builtin_memcpy(key.peer, p.key.local, 16);
	key.local_port = tcp.source;
	key.peer_port = tcp.dest;
	g = bpf_map_lookup_elem(&gecko_gated, &key);
	/* Not its own SYN-ACK once more: the client uses the port again of a connection that this kernel does not have any more. */
	if (g && !is_marked(skb) && (p.tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK) && bpf_ntohl(tcp.seq) + 1 != g->first_out && !PLANTED(21))
		g = 0;
	if (!g) {
		if (is_marked(skb))
			return refuse(GECKO_G_NO_ENTRY);
		return judge_unknown(skb, &p, &key, port, term_of(lease));
	}
	if (g->term != term_of(lease) && !PLANTED(14))
		return refuse(GECKO_G_FENCED);
	if (is_marked(skb))
		return send_marked(skb, &p, &key, g, now);
	/* A killed server's kernel ends its connections, which live on elsewhere. */
	if (p.tcp_flags & (TCP_FIN | TCP_RST) && !(g->flags & GECKO_GATE_F_MAY_END) && !PLANTED(15)) {
		*(volatile __u8 *)&g->wants_end = !PLANTED(17);
		__sync_fetch_and_add(&g->round, 0); /* its barrier: see report_moved */
		report_moved(&key, &g->round);
		return refuse(GECKO_G_END);
	}
	return judge_known(skb, &p, &key, &tcp, g, now);
}

/* GateTable: see struct gecko_gate_command. One writer per connection. */
SEC("syscall")
int gecko_gate_set(struct gecko_gate_command *command)
{
	struct gecko_flow_key key = command->key;
	struct gecko_gated *g = bpf_map_lookup_elem(&gecko_gated, &key);
	union marks sent, kernel;

	command->clock_ns = bpf_ktime_get_boot_ns();
	command->error = g ? 0 : -2 /* ENOENT */;
	if (!g)
		return 0;
	/* An exchange, for its barrier: a packet that was held against the old watermark has noted its numbers before we read them below, or
	 * has seen the new one. */
	if (command->what & GECKO_GATE_SET_WATERMARK && (after(command->watermark, g->watermark) || PLANTED(16)))
		__sync_lock_test_and_set(&g->watermark, command->watermark);
	if (command->what & GECKO_GATE_SET_RELEASED && after(command->released, g->released))
		*(volatile __u32 *)&g->released = command->released;
	if (command->what & GECKO_GATE_SET_TERM)
		*(volatile __u16 *)&g->term = command->term;
	if (command->what & GECKO_GATE_SET_FLAGS)
		*(volatile __u8 *)&g->flags = g->flags | command->flags;
	if (command->what & GECKO_GATE_SET_UNCLAMPED)
		*(volatile __u8 *)&g->flags = g->flags & ~GECKO_GATE_F_CLAMP;
	sent = read_marks(&g->sent);
	kernel = read_marks(&g->kernel);
	command->now_watermark = g->watermark;
	command->sent_ack = sent.ack;
	command->sent_edge = sent.edge;
	command->kernel_ack = kernel.ack;
	command->kernel_edge = kernel.edge;
	command->snd_nxt = g->snd_nxt;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
