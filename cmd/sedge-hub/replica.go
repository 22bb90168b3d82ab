package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// replicaAddress is where other replicas reach this one.
func (p *program) replicaAddress() string {
	at, ok := p.listener.Addr().(*net.TCPAddr)
	switch {
	case p.replica != "":
		return p.replica
	case !ok || !at.IP.IsUnspecified():
		return p.listener.Addr().String()
	}
	host := "127.0.0.1" // replicas on one machine without a network
	if ips := addresses(); len(ips) > 0 {
		host = ips[0]
	}
	return net.JoinHostPort(host, strconv.Itoa(at.Port))
}

// among returns the URL at which other replicas ask this one, and with what it asks them. They
// show the certificate of the host, or, with "", of the address that they are asked at.
func (p *program) among(host string) (url string, peers *http.Client, err error) {
	address := p.replicaAddress()
	if _, _, err := net.SplitHostPort(address); err != nil {
		return "", nil, &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("--replica-address: %s", err), Hint: "like --replica-address 10.0.0.7:7443"}
	}
	file := p.cert
	if file == "" {
		file = filepath.Join(p.dataDir, caFile)
	}
	peers, err = trusting(file, host)
	return "https://" + address, peers, err
}

// trusting returns a client for servers that have the host's certificate in a file of PEM, or
// one of an authority that is in it or known to this machine. With "" the host is that of
// each URL.
func trusting(file, host string) (*http.Client, error) {
	own, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	trusted, err := x509.SystemCertPool()
	if err != nil {
		trusted = x509.NewCertPool() // then only what is in the file
	}
	trusted.AppendCertsFromPEM(own)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: trusted, ServerName: host, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     time.Minute,
	}}, nil
}
