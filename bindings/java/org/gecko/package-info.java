/**
 * A server whose live TCP connections move between the machines of a group; clients notice nothing. Needs geckod on this machine.
 *
 * <pre>{@code
 * try (Framework group = new Framework("web")) {
 *   group.setPolicy(BuiltinPolicy.LEAST_CONNECTIONS);
 *   group.join();
 *   try (ServerSocket server = group.listen()) {
 *     for (;;) {
 *       Socket client = server.accept();              // a new client, or a connection that arrives from another node
 *       new Thread(() -> serve(client)).start();
 *     }
 *   }
 * }
 * }</pre>
 *
 * <p><b>When may a connection leave?</b> While its program waits for the next bytes in {@link org.gecko.Socket#read(byte[], int, int) read()} (or says
 * {@link org.gecko.Socket#mayLeave() mayLeave()}) and no write is under way, at no other moment: whatever was read has been dealt with, and nothing is lost or
 * done twice. A move that is wanted in between follows by itself. What the other node must know goes into
 * {@link org.gecko.Socket#setState(byte[]) setState()}. After a move every call throws {@link org.gecko.MovedException}: for the program on this node
 * a normal end. Do not put a {@code BufferedInputStream} or a {@code Reader} around the socket's stream: what they have read ahead would be lost.
 *
 * <p><b>When a node dies</b>, its connections come out of {@link org.gecko.ServerSocket#accept() accept()} on another one, with
 * {@link org.gecko.Socket#recovery() recovery()}, in groups whose file says so.
 *
 * <p><b>Threads.</b> Everything may be called from any thread at any time. To close a socket or server socket ends the calls of other threads on it
 * ({@link java.nio.channels.AsynchronousCloseException}); to interrupt a thread that waits in one closes it
 * ({@link java.nio.channels.ClosedByInterruptException}), as with all channels. Calls on something that is closed throw
 * {@link java.nio.channels.ClosedChannelException}. Other errors are {@link org.gecko.GeckoException}s. Policies and callbacks run in whichever thread is in
 * the library; their exceptions go to that thread's uncaught exception handler.
 *
 * <p>Close everything. What is forgotten is closed when the garbage collector finds it, which may be never.
 */
package org.gecko;
