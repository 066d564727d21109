package recognition

import (
	"fmt"
	"path/filepath"

	"github.com/BurntSushi/toml"
)

// Profile says how a service reaches its gateway, and by which certificate the gateway knows it.
type Profile struct {
	// Address is host:port. The gateway's certificate must be for this host.
	Address string
	// CA is the file of the certificates that the gateway's own must come from, PEM.
	CA string
	// Certificate is the file of the service's certificate, and of those between it and its CA, PEM.
	Certificate string
	// PrivateKey is the file of its key, PEM.
	PrivateKey string
}

// ReadProfile reads the TOML file that provisioning wrote: address, ca, certificate, private_key. Files that it names
// are relative to its folder.
func ReadProfile(file string) (Profile, error) {
	var content struct {
		Address     string `toml:"address"`
		CA          string `toml:"ca"`
		Certificate string `toml:"certificate"`
		PrivateKey  string `toml:"private_key"`
	}
	if _, err := toml.DecodeFile(file, &content); err != nil {
		return Profile{}, fmt.Errorf("read profile %s: %w", file, err)
	}
	beside := func(name string) string {
		if name == "" || filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(filepath.Dir(file), name)
	}
	profile := Profile{
		Address:     content.Address,
		CA:          beside(content.CA),
		Certificate: beside(content.Certificate),
		PrivateKey:  beside(content.PrivateKey),
	}
	if err := profile.check(); err != nil {
		return Profile{}, fmt.Errorf("read profile %s: %w", file, err)
	}
	return profile, nil
}

func (p Profile) check() error {
	for _, each := range []struct{ name, value string }{
		{"address", p.Address}, {"ca", p.CA}, {"certificate", p.Certificate}, {"private_key", p.PrivateKey},
	} {
		if each.value == "" {
			return fmt.Errorf("%s is missing", each.name)
		}
	}
	return nil
}
