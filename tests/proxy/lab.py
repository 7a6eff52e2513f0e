"""A lab with servers as Debian has them on its nodes and a geckoproxy before each. The test itself lives in the client's namespace."""
import contextlib, ctypes, json, os, shutil, signal, socket, subprocess, threading, time

WEB, REDIS, SSH, ODD = 8080, 6379, 2022, 9000  # the group's ports; ODD is for servers of single tests
NGINX, NGINX_PROXIED = 8000, 8001              # on each node, on all its own addresses
CLONE_NEWNET = 0x40000000


def eventually(done, at_most=10.0):
    end = time.monotonic() + at_most
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class Lab:
    def __init__(self, bin_directory, nodes=3, options=()):
        self.bin, self.name, self.programs = bin_directory, "proxy-%d" % os.getpid(), {}
        self.nodes = ["n%d" % (i + 1) for i in range(nodes)]
        self.directory = "/run/gecko/lab/" + self.name
        ports = [x for p in (WEB, REDIS, SSH, ODD) for x in ("--port", str(p))]
        subprocess.run([self.bin + "/gecko", "lab", "--name", self.name, "up", "--nodes", str(nodes)] + ports + list(options), check=True, stdout=subprocess.DEVNULL)
        self.group = "2001:db8:1::80"
        self.home = open("/proc/self/ns/net")
        with open("/run/netns/gecko-%s-client" % self.name) as namespace:
            self._enter(namespace)
        self.client = "2001:db8:2::2"
        try:
            self._files()
        except BaseException:
            self.down()
            raise

    def _enter(self, namespace):
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "enter a network namespace")

    def down(self):
        self._enter(self.home)  # whoever is in a lab ends with it
        for key in list(self.programs):
            self.end(*key, signal.SIGKILL)
        subprocess.run([self.bin + "/gecko", "lab", "--name", self.name, "down"], stdout=subprocess.DEVNULL)

    def file(self, *parts):
        return os.path.join(self.directory, *parts)

    def _files(self):
        os.makedirs(self.file("www"), mode=0o755, exist_ok=True)
        os.chmod(self.directory, 0o755)
        for name, size in (("1k", 1 << 10), ("8k", 8 << 10), ("256k", 256 << 10), ("8m", 8 << 20)):
            with open(self.file("www", name), "wb") as f:
                f.write(os.urandom(size))
        for node in self.nodes:
            home = self.file(node)
            temp = "".join("%s_temp_path %s/tmp-%s;\n" % (x, home, x) for x in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            with open(home + "/nginx.conf", "w") as f:
                f.write("daemon off; worker_processes 1; error_log stderr warn; pid %s/nginx.pid; events { worker_connections 8000; }\n" % home
                        + "http { access_log off; keepalive_requests 100000000; keepalive_timeout 600s; client_max_body_size 0; root %s;\n" % self.file("www") + temp
                        + "server { listen [::]:%d ipv6only=off; listen [::]:%d ipv6only=off proxy_protocol;\n" % (NGINX, NGINX_PROXIED)
                        + 'location = /node { default_type text/plain; return 200 "%s\\n"; }\n' % node
                        + 'location = /who { default_type text/plain; return 200 "$proxy_protocol_addr $proxy_protocol_port\\n"; }\n'
                        + "location = /slow { limit_rate 100k; try_files /256k =404; }\n"
                        + 'location = /length { default_type text/plain; if ($request_method = POST) { return 200 "$content_length\\n"; } return 405; }\n} }\n')

    # --- programs on the nodes

    def start(self, node, name, argv):
        log = open(self.file(node, name + ".log"), "ab")
        environment = dict(os.environ, GECKO_SOCKET=self.file(node, "geckod.sock"))
        self.programs[node, name] = subprocess.Popen(["ip", "netns", "exec", "gecko-%s-%s" % (self.name, node)] + argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        log.close()

    def end(self, node, name, how=signal.SIGTERM):
        process = self.programs.pop((node, name), None)
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self, node, name):
        try:
            with open(self.file(node, name + ".log")) as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def proxy(self, node, port, server, *more):
        name = "proxy-%d" % port
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.file(node, name + ".log"))
        self.start(node, name, [self.bin + "/geckoproxy", "-g", self.file("group.toml"), "-p", str(port), "-a", str(server), "--workers", "1", "--json"] + list(more))
        if not eventually(lambda: '"ready"' in self.log(node, name)):
            raise AssertionError("geckoproxy on %s does not start: %s" % (node, self.log(node, name)))

    def nginx(self, *nodes):
        for node in nodes or self.nodes:
            self.start(node, "nginx", ["nginx", "-c", self.file(node, "nginx.conf")])
            self.wait_server(node, NGINX)

    def wait_server(self, node, port):
        command = ["ip", "netns", "exec", "gecko-%s-%s" % (self.name, node), "ss", "-Hltn", "sport = :%d" % port]
        if not eventually(lambda: subprocess.run(command, capture_output=True).stdout):
            raise AssertionError("nothing listens on port %d of %s: %s" % (port, node, self.log(node, "nginx")))

    def everybody_sees(self, applications, nodes=None):
        """Every node knows that these have so many applications: they can be targets."""
        wanted = nodes or self.nodes
        def seen():
            for node in self.nodes:
                rows = {r["name"]: r for r in self.ask(node, "status")["groups"][0]["nodes"]}
                if any(rows[n]["state"] not in ("self", "ok") or rows[n]["applications"] < applications for n in wanted):
                    return False
            return True
        if not eventually(seen):
            raise AssertionError("the nodes do not see each other's applications")

    # --- the operator

    def gecko(self, node, *words):
        """A command of the operator: its exit code, what it printed with --json."""
        out = subprocess.run([self.bin + "/gecko", "--socket", self.file(node, "geckod.sock"), "--json"] + list(words), capture_output=True, text=True)
        return out.returncode, json.loads(out.stdout.strip().splitlines()[-1])

    def ask(self, node, *words):
        return self.gecko(node, *words)[1]

    def handoff(self, to, client=None):
        return self.ask("n1", "handoff", "--client", client or self.client, "--to", to).get("results", [])

    def connections(self, node):
        return self.ask(node, "connections")["connections"]

    def mirrors(self, node):
        return self.ask(node, "mirrors")["mirrors"]

    def moved(self):
        return sum(self.ask(n, "status")["groups"][0]["handoffs"]["out_ok"] for n in self.nodes)

    @contextlib.contextmanager
    def moving(self, least=0):
        """Moves everything of the client from node to node, again and again, while something else goes on."""
        before, stop, failure = self.moved(), threading.Event(), []
        def carousel():
            turn = 0
            while not stop.is_set():
                turn += 1
                try:
                    self.handoff(self.nodes[turn % len(self.nodes)])
                except Exception as e:  # reported by the test's own thread
                    failure.append(e)
                    return
        thread = threading.Thread(target=carousel)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if failure:
            raise failure[0]
        moves = self.moved() - before
        print("  %d connections moved meanwhile" % moves)
        if moves < least:
            raise AssertionError("INVALID: %d moves show nothing, at least %d are needed" % (moves, least))

    # --- the client

    def connect(self, port=WEB, address=None):
        s = socket.create_connection((address or self.group, port), 10)
        s.settimeout(10)
        return s

    def address(self, node):
        return "2001:db8:1::1%s" % node[1:]

    def url(self, path, port=WEB):
        return "http://[%s]:%d%s" % (self.group, port, path)


def receive(s, size):
    """So many bytes, fewer at the end of the stream."""
    got = b""
    while len(got) < size:
        more = s.recv(size - len(got))
        if not more:
            break
        got += more
    return got


def answer(s):
    """One response with Content-Length: head, content."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = s.recv(1)
        if not byte:
            raise AssertionError("ended in the head of an answer: %r" % head)
        head += byte
    length = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head, receive(s, length[0] if length else 0)


def get(path):
    return b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode()


def where(s):
    s.sendall(get("/node"))
    return answer(s)[1].decode().strip()
