package loadtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// ErrPublicTarget is returned for a target outside loopback and private networks:
// a load test of somebody else's server is an attack.
var ErrPublicTarget = errors.New("not a loopback or private address")

// target is where requests go. The address is resolved and judged once, and dialled
// as judged: a name that resolves to something else later changes nothing.
type target struct {
	addr string // ip:port
	host string // Host header and TLS name
	tls  bool
	path string // prefix of every path, without a slash at its end
}

func resolve(ctx context.Context, base string, allowRemote bool) (target, error) {
	u, err := url.Parse(base)
	if err != nil {
		return target{}, fmt.Errorf("target %q: %w", base, err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return target{}, fmt.Errorf("target %q: write http://HOST:PORT or https://HOST:PORT, with a path prefix if there is one", base)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return target{}, fmt.Errorf("target %q: %w", base, err)
	}
	for _, a := range addrs {
		if !allowRemote && !near(a) {
			return target{}, fmt.Errorf("target %q is %s, %w; if it is your own server, allow remote targets", base, a.Unmap(), ErrPublicTarget)
		}
	}
	return target{
		addr: net.JoinHostPort(addrs[0].Unmap().String(), port), host: u.Host, tls: u.Scheme == "https",
		path: strings.TrimRight(u.EscapedPath(), "/"),
	}, nil
}

func near(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
}
