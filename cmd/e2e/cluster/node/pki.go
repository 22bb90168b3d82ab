package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// makePKI fills the folder with the keys, certificates and kubeconfigs of all
// components, unless a former life of the node has done so.
func makePKI(dir, node string) error {
	if _, err := os.Stat(filepath.Join(dir, "complete")); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	a := &authority{dir: dir}
	a.begin()
	a.key("sa") // signs the tokens of service accounts
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", node}
	a.server("apiserver", names, Address, apiService, "127.0.0.1")
	a.server("kubelet-serving", []string{node}, Address, "127.0.0.1")
	a.client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
	a.kubeconfig("admin", "admin", "system:masters")
	a.kubeconfig("controller-manager", "system:kube-controller-manager", "system:masters")
	a.kubeconfig("scheduler", "system:kube-scheduler")
	a.kubeconfig("kubelet", "system:node:"+node, "system:nodes")
	a.kubeconfig("kube-proxy", "system:kube-proxy")
	a.write("complete", nil)
	return a.err
}

// An authority issues certificates into a folder. After an error it does
// nothing more.
type authority struct {
	dir    string
	signer *ecdsa.PrivateKey
	cert   *x509.Certificate
	pem    []byte
	serial int64
	err    error
}

func (a *authority) begin() {
	a.serial = time.Now().UnixNano()
	a.signer, _ = a.key("ca")
	t := a.template("cluster-ca")
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage |= x509.KeyUsageCertSign
	a.cert = t
	a.pem = a.sign("ca", t, a.signer)
}

func (a *authority) template(name string, groups ...string) *x509.Certificate {
	a.serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(a.serial),
		Subject:      pkix.Name{CommonName: name, Organization: groups},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
}

// server issues a serving certificate.
func (a *authority) server(file string, names []string, addresses ...string) {
	key, _ := a.key(file)
	t := a.template(file)
	t.ExtKeyUsage, t.DNSNames = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, names
	for _, address := range addresses {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(address))
	}
	a.sign(file, t, key)
}

// client issues the certificate of a user, and returns it with its key as PEM.
func (a *authority) client(file, user string, groups ...string) (cert, key []byte) {
	k, key := a.key(file)
	t := a.template(user, groups...)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.sign(file, t, k), key
}

// kubeconfig makes a client and the file that it is used with within the node.
func (a *authority) kubeconfig(file, user string, groups ...string) {
	cert, key := a.client(file, user, groups...)
	a.write(file+".kubeconfig", kubeconfig(inNodeURL, a.pem, cert, key))
}

func (a *authority) key(file string) (*ecdsa.PrivateKey, []byte) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.err = errors.Join(a.err, err)
		return nil, nil
	}
	der, err := x509.MarshalECPrivateKey(k)
	a.err = errors.Join(a.err, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	a.write(file+".key", text)
	return k, text
}

func (a *authority) sign(file string, t *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	if a.err != nil {
		return nil
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &key.PublicKey, a.signer)
	a.err = err
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	a.write(file+".crt", text)
	return text
}

func (a *authority) write(file string, text []byte) {
	if a.err == nil {
		a.err = os.WriteFile(filepath.Join(a.dir, file), text, 0o600)
	}
}

// kubeconfig returns the file that a client of the server needs, all PEM within.
func kubeconfig(server string, ca, cert, key []byte) []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: cluster, cluster: {server: "%s", certificate-authority-data: %s}}]
users: [{name: user, user: {client-certificate-data: %s, client-key-data: %s}}]
contexts: [{name: cluster, context: {cluster: cluster, user: user}}]
current-context: cluster
`, server, b64(ca), b64(cert), b64(key))
}

// hostKubeconfig returns the administrator's, for a server at another address.
func hostKubeconfig(pki, server string) ([]byte, error) {
	var text [3][]byte
	for i, file := range []string{"ca.crt", "admin.crt", "admin.key"} {
		var err error
		if text[i], err = os.ReadFile(filepath.Join(pki, file)); err != nil {
			return nil, err
		}
	}
	return kubeconfig(server, text[0], text[1], text[2]), nil
}
