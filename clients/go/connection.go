package recognition

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

const (
	// lookEvery is how often, at most, the files are looked at.
	lookEvery = time.Second
	// maxAnswerBytes leaves room for the receipts and attributes of a full batch.
	maxAnswerBytes = 32 * 1024 * 1024
	// maxRetryBytes is the largest message that gRPC keeps for a second try: that of a full batch.
	maxRetryBytes = 5 * 1024 * 1024
)

// serviceConfig says which calls are tried again, and how.
//
//go:embed service-config.json
var serviceConfig string

// connections keeps a connection to the gateway that was made with the certificate as it is now. When the files change,
// another takes its place, and the one before ends with the last call on it. It is what generated stubs call through.
type connections struct {
	profile Profile

	mu     sync.Mutex
	looked time.Time
	files  files
	// present is the one for new calls; nil: closed.
	present *connection
	// former still have calls on them.
	former map[*connection]struct{}
	// closed is closed when no more calls may be made.
	closed chan struct{}
}

// connection counts the calls on it. Guarded by connections.mu.
type connection struct {
	*grpc.ClientConn
	calls int
}

func connect(profile Profile) (*connections, error) {
	found, err := readFiles(profile)
	if err != nil {
		return nil, err
	}
	made, err := found.connect(profile.Address)
	if err != nil {
		return nil, err
	}
	return &connections{
		profile: profile, looked: time.Now(), files: found, present: made,
		former: map[*connection]struct{}{}, closed: make(chan struct{}),
	}, nil
}

// take gives the connection for a call that begins now. It must be given back.
func (c *connections) take() (*connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.present == nil {
		return nil, ErrClosed
	}
	c.look()
	c.present.calls++
	return c.present, nil
}

// look renews the connection if the files have changed. Files that cannot be read or do not fit together are most
// likely being replaced just now: what was good stays in use, and they are looked at again.
func (c *connections) look() {
	now := time.Now()
	if now.Sub(c.looked) < lookEvery {
		return
	}
	c.looked = now
	found, err := readFiles(c.profile)
	if err != nil || found.equal(c.files) {
		return
	}
	made, err := found.connect(c.profile.Address)
	if err != nil {
		return
	}
	c.retire()
	c.files, c.present = found, made
}

func (c *connections) retire() {
	if c.present.calls == 0 {
		_ = c.present.Close()
	} else {
		c.former[c.present] = struct{}{}
	}
}

func (c *connections) giveBack(connection *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	connection.calls--
	if _, former := c.former[connection]; former && connection.calls == 0 {
		delete(c.former, connection)
		_ = connection.Close()
	}
}

// isPresent tells whether new calls would still go over this connection.
func (c *connections) isPresent(connection *connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.present != nil {
		c.look()
	}
	return connection == c.present
}

func (c *connections) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.present == nil {
		return nil
	}
	close(c.closed)
	err := c.present.Close()
	for each := range c.former {
		err = errors.Join(err, each.Close())
	}
	c.present = nil
	clear(c.former)
	return err
}

func (c *connections) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// Invoke makes a call of one message.
func (c *connections) Invoke(ctx context.Context, method string, request, answer any, options ...grpc.CallOption) error {
	connection, err := c.take()
	if err != nil {
		return err
	}
	defer c.giveBack(connection)
	return connection.Invoke(ctx, method, request, answer, options...)
}

// NewStream begins a call of many messages.
func (c *connections) NewStream(
	ctx context.Context, description *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	connection, err := c.take()
	if err != nil {
		return nil, err
	}
	giveBack := sync.OnceFunc(func() { c.giveBack(connection) })
	options = append(slices.Clip(options), grpc.OnFinish(func(error) { giveBack() }))
	stream, err := connection.NewStream(ctx, description, method, options...)
	if err != nil {
		giveBack()
	}
	return stream, err
}

// files are the contents of a profile's files.
type files struct {
	ca, certificate, privateKey []byte
}

func readFiles(profile Profile) (files, error) {
	var found files
	for _, each := range []struct {
		name string
		into *[]byte
	}{{profile.CA, &found.ca}, {profile.Certificate, &found.certificate}, {profile.PrivateKey, &found.privateKey}} {
		content, err := os.ReadFile(each.name)
		if err != nil {
			return files{}, err
		}
		*each.into = content
	}
	return found, nil
}

func (f files) equal(other files) bool {
	return bytes.Equal(f.ca, other.ca) && bytes.Equal(f.certificate, other.certificate) &&
		bytes.Equal(f.privateKey, other.privateKey)
}

// tls makes the settings of a connection by these files.
func (f files) tls() (*tls.Config, error) {
	certificate, err := tls.X509KeyPair(f.certificate, f.privateKey)
	if err != nil {
		return nil, fmt.Errorf("certificate and private key: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(f.ca) {
		return nil, errors.New("ca: no certificate in it")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		RootCAs:    authorities,
		// Given whatever CAs the gateway names, so that it can say whom it refuses.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil },
	}, nil
}

// connect prepares a connection; nothing is sent before the first call.
func (f files) connect(address string) (*connection, error) {
	settings, err := f.tls()
	if err != nil {
		return nil, err
	}
	made, err := grpc.NewClient("dns:///"+address,
		grpc.WithTransportCredentials(mutualTLS{credentials.NewTLS(settings)}),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// Directly, whatever proxy the environment names: a gateway is no matter of theirs.
		grpc.WithNoProxy(),
		// What a name server says must not change which calls are tried again.
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxAnswerBytes), grpc.MaxRetryRPCBufferSize(maxRetryBytes),
		),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// A gateway that comes back is found within seconds; gRPC's own settings would take up to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	)
	if err != nil {
		return nil, err
	}
	return &connection{ClientConn: made}, nil
}

// mutualTLS lets a connection that the gateway does not want fail with the gateway's reason. By TLS 1.3 a client that has
// sent its certificate begins to write, and hears only then that it is refused: gRPC would say "broken pipe".
type mutualTLS struct {
	credentials.TransportCredentials
}

func (m mutualTLS) ClientHandshake(
	ctx context.Context, authority string, raw net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	made, info, err := m.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	return &heard{Conn: made, ended: make(chan struct{})}, info, nil
}

func (m mutualTLS) Clone() credentials.TransportCredentials {
	return mutualTLS{m.TransportCredentials.Clone()}
}

// heard is a connection on which a write that fails tells why reading ended, if it did.
type heard struct {
	net.Conn
	once  sync.Once
	ended chan struct{}
	why   error
}

func (h *heard) Read(into []byte) (int, error) {
	count, err := h.Conn.Read(into)
	if err != nil {
		h.once.Do(func() {
			h.why = err
			close(h.ended)
		})
	}
	return count, err
}

func (h *heard) Write(from []byte) (int, error) {
	count, err := h.Conn.Write(from)
	if err == nil {
		return count, nil
	}
	timer := time.NewTimer(leastPause)
	defer timer.Stop()
	select {
	case <-h.ended:
		var alert *net.OpError
		if errors.As(h.why, &alert) && alert.Op == "remote error" {
			return count, h.why
		}
	case <-timer.C:
	}
	return count, err
}
