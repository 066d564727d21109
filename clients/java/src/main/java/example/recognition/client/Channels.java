package example.recognition.client;

import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Where calls go. Each call asks anew for the channel, because there is another one when the certificate was replaced.
 */
abstract class Channels implements AutoCloseable {

  private static final long RECONNECT_NANOS = TimeUnit.SECONDS.toNanos(1);

  private final AtomicLong reconnected = new AtomicLong(System.nanoTime() - RECONNECT_NANOS);
  private final CountDownLatch closed = new CountDownLatch(1);

  /** Gives the channel as it is now. */
  abstract ManagedChannel current();

  /** Tells where the gateway is, for whoever has to look why it is not reached. */
  abstract String address();

  /** Ends the channel, and the calls on it. Those who ask for it afterwards get one that answers nothing. */
  abstract void shutDown();

  /**
   * Gives the channel for a call that begins.
   *
   * <p>gRPC waits up to two minutes before it tries again to reach a gateway that was away for long. Whoever calls now
   * wants to know now, so it is told to try at once; not more often than every second.
   */
  ManagedChannel forCall() {
    var channel = current();
    if (channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
      long now = System.nanoTime();
      long last = reconnected.get();
      if (now - last >= RECONNECT_NANOS && reconnected.compareAndSet(last, now)) {
        channel.resetConnectBackoff();
      }
    }
    return channel;
  }

  boolean isClosed() {
    return closed.getCount() == 0;
  }

  /** Waits before another try, but no longer than until it is closed. */
  void pause(long nanos) throws InterruptedException {
    closed.await(nanos, TimeUnit.NANOSECONDS);
  }

  /** Lets no more calls begin, and ends those under way. */
  @Override
  public final void close() {
    closed.countDown();
    shutDown();
  }
}
