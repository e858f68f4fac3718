package stream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
)

// secureCluster is a broker that wants TLS and SCRAM: the real one that
// SERALM_TEST_KAFKA_TLS names (https://user:password@host:port?ca=FILE, see
// ops/integration/run.sh), else the embedded one's engine. refusal is what a client
// without the right password is told; the engine just hangs up.
func secureCluster(t *testing.T) (cfg config.Kafka, refusal string) {
	t.Helper()
	cfg = config.Default().Kafka
	cfg.TLS.Enabled = true
	cfg.SASL = config.SASL{Mechanism: "SCRAM-SHA-512", Username: "seralm", Password: "integration"}
	if named := os.Getenv("SERALM_TEST_KAFKA_TLS"); named != "" {
		u, err := url.Parse(named)
		require.NoError(t, err)
		password, _ := u.User.Password()
		cfg.Brokers, cfg.TLS.CAFile = []string{u.Host}, u.Query().Get("ca")
		cfg.SASL.Username, cfg.SASL.Password = u.User.Username(), config.Secret(password)
		return cfg, "SASL_AUTHENTICATION_FAILED"
	}
	pair, ca := selfSigned(t)
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(),
		kfake.Superuser("SCRAM-SHA-512", cfg.SASL.Username, string(cfg.SASL.Password)),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}))
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	cfg.Brokers, cfg.TLS.CAFile = fake.ListenAddrs(), ca
	return cfg, "EOF"
}

// selfSigned makes the certificate of 127.0.0.1, and the file that vouches for it.
func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, ca
}

func TestTLSAndSCRAM(t *testing.T) {
	cfg, refusal := secureCluster(t)
	t.Run("write and read", func(t *testing.T) {
		c := connect(t, cfg)
		topic := c.topic("t", 1)
		c.produce(record(topic, 0, 1, "private"))
		require.Equal(t, []string{"private"}, c.visible(topic))
	})
	for name, tc := range map[string]struct {
		change func(*config.Kafka)
		says   string
	}{
		"a wrong password":       {func(c *config.Kafka) { c.SASL.Password = "guessed" }, refusal},
		"a wrong user":           {func(c *config.Kafka) { c.SASL.Username = "nobody" }, refusal},
		"an unknown certificate": {func(c *config.Kafka) { _, c.TLS.CAFile = selfSigned(t) }, "signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			tc.change(&cfg)
			cl, err := newClient(cfg, kgo.RequestRetries(0))
			require.NoError(t, err)
			defer cl.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			require.ErrorContains(t, cl.Ping(ctx), tc.says)
		})
	}
}
