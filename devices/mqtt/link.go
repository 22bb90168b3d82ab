package mqtt

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/sedge-iot/sedge/devices"
)

// A link is one accepted connection to the broker: paho keeps its session, the
// wire carries its messages. A paho client is not fit to be used twice, so each
// connection has one of its own.
type link struct {
	paho paho.Client
	*wire
}

// A role is what tells the inbound and the outbound connection apart.
type role struct {
	id    string
	clean bool
	greet func(kept bool)
	hear  func(devices.Message) // or nil
}

// dial connects to the broker. The caller closes the link.
func (c *Client) dial(ctx context.Context, as role) (*link, error) {
	password, err := c.config.password()
	if err != nil {
		return nil, err
	}
	var w *wire                            // what open made; to be read once the token is done
	unwatch := func() bool { return true } // from then on, the end of ctx is the caller's to see to
	open := func(*url.URL, paho.ClientOptions) (net.Conn, error) {
		conn, err := c.open(ctx)
		if err != nil {
			return nil, err
		}
		w = newWire(conn, c.config.MaxPacket, as.greet, as.hear)
		unwatch = context.AfterFunc(ctx, func() { w.fail(ctx.Err()) })
		return w, nil
	}
	client := paho.NewClient(c.options(as, password).SetCustomOpenConnectionFn(open))
	token := client.Connect()
	<-token.Done() // bounded by dialTimeout and by ctx
	unwatch()
	if err := token.Error(); err != nil {
		if w != nil {
			w.close(err)
		}
		return nil, plain(err)
	}
	return &link{client, w}, nil
}

func (c *Client) options(as role, password string) *paho.ClientOptions {
	keepAlive := c.config.KeepAlive
	return paho.NewClientOptions().
		AddBroker("tcp://" + c.to.address).
		SetClientID(as.id).
		SetCleanSession(as.clean).
		SetUsername(c.config.Username).
		SetPassword(password).
		SetProtocolVersion(4).
		SetAutoReconnect(false).
		SetAutoAckDisabled(true).
		SetConnectTimeout(dialTimeout).
		SetWriteTimeout(time.Second). // of handing SUBSCRIBE to paho: the wire never makes it wait
		SetKeepAlive(keepAlive).
		SetPingTimeout(min(keepAlive/8, 2500*time.Millisecond)). // paho looks at it only every quarter of the keep-alive, or every 5s
		SetStore(noStore{})
}

// open connects the network and, where asked for, TLS.
func (c *Client) open(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conf, err := c.config.tls(c.to)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{} // sets TCP_NODELAY
	if conf == nil {
		return dialer.DialContext(ctx, "tcp", c.to.address)
	}
	return (&tls.Dialer{NetDialer: dialer, Config: conf}).DialContext(ctx, "tcp", c.to.address)
}

// shut says goodbye to the broker, if it is still there, and returns once no
// message will come and every publication has its outcome.
func (l *link) shut() {
	l.paho.Disconnect(uint(closeTimeout.Milliseconds()))
	l.close(errClosed)
	<-l.ended
}

// plain strips what paho wraps around the error of a dial.
func plain(err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		causes := many.Unwrap()
		return causes[len(causes)-1]
	}
	return fmt.Errorf("connect: %w", err)
}

// noStore keeps paho from keeping messages: what is not confirmed is stored by
// who published it.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}
