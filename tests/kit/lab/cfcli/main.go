// A stand-in of the cf CLI's plugin side, with Go's own net/rpc and encoding/gob.
//
// It does what cf v7 and v8 do (command/plugin/shared/rpc.go, plugin/rpc, actor/pluginaction):
//
//	cf install-plugin PATH|URL -f cf uninstall-plugin NAME     cf help COMMAND
//	cf COMMAND ARGUMENTS...       a command or alias of a plugin
//	cf login -a URL               without a question: the token is STANDIN_TOKEN
//	cf target -o ORG -s SPACE     of which the GUIDs are org-guid and space-guid
//	cf ssh ARGUMENTS...           by the program STANDIN_CF (tests/kit/doubles/cf_ssh.py)
//
// CF_HOME has the plugins.  The login is what the file STANDIN_LOGIN says (JSON).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
)

type VersionType struct{ Major, Minor, Build int }

type Usage struct {
	Usage   string
	Options map[string]string
}

type Command struct {
	Name, Alias, HelpText string
	UsageDetails          Usage
}

type PluginMetadata struct {
	Name                                   string
	Version, LibraryVersion, MinCliVersion VersionType
	Commands                               []Command
}

type Login struct {
	LoggedIn, SSLDisabled  bool
	Api, Token, TokenError string
	OrgGuid, OrgName       string
	SpaceGuid, SpaceName   string
}

type QuotaDefinition struct {
	Guid        string
	RoutesLimit int
}
type OrganizationFields struct {
	Guid, Name      string
	QuotaDefinition QuotaDefinition
}
type Organization struct{ OrganizationFields }
type SpaceFields struct{ Guid, Name string }
type Space struct{ SpaceFields }

type CliRpcCmd struct {
	login    Login
	metadata *PluginMetadata
}

func (c *CliRpcCmd) SetPluginMetadata(metadata PluginMetadata, ok *bool) error {
	c.metadata, *ok = &metadata, true
	return nil
}
func (c *CliRpcCmd) IsLoggedIn(_ string, yes *bool) error    { *yes = c.login.LoggedIn; return nil }
func (c *CliRpcCmd) IsSSLDisabled(_ string, yes *bool) error { *yes = c.login.SSLDisabled; return nil }
func (c *CliRpcCmd) ApiEndpoint(_ string, url *string) error { *url = c.login.Api; return nil }
func (c *CliRpcCmd) AccessToken(_ string, token *string) error {
	if c.login.TokenError != "" {
		return errors.New(c.login.TokenError)
	}
	*token = "bearer " + c.login.Token
	return nil
}
func (c *CliRpcCmd) GetCurrentOrg(_ string, org *Organization) error {
	org.Guid, org.Name = c.login.OrgGuid, c.login.OrgName
	return nil
}
func (c *CliRpcCmd) GetCurrentSpace(_ string, space *Space) error {
	space.Guid, space.Name = c.login.SpaceGuid, c.login.SpaceName
	return nil
}

func plugins() string { return filepath.Join(os.Getenv("CF_HOME"), ".cf", "plugins") }

type Config struct{ Plugins map[string]Plugin }
type Plugin struct {
	Name, Location string
	Version        VersionType
	Commands       []Command
}

func readConfig() Config {
	config := Config{Plugins: map[string]Plugin{}}
	if data, err := os.ReadFile(filepath.Join(plugins(), "config.json")); err == nil {
		check(json.Unmarshal(data, &config))
	}
	return config
}

func writeConfig(config Config) {
	data, err := json.Marshal(config)
	check(err)
	check(os.WriteFile(filepath.Join(plugins(), "config.json"), data, 0600))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAILED:", err)
		os.Exit(1)
	}
}

func readLogin() Login {
	login := Login{}
	if file := os.Getenv("STANDIN_LOGIN"); file != "" {
		data, err := os.ReadFile(file)
		check(err)
		check(json.Unmarshal(data, &login))
	}
	return login
}

func writeLogin(login Login) {
	data, err := json.Marshal(login)
	check(err)
	check(os.WriteFile(os.Getenv("STANDIN_LOGIN"), data, 0600))
}

func logIn(arguments []string) {
	flags := flag.NewFlagSet("login", flag.ExitOnError)
	api := flags.String("a", "", "API URL")
	check(flags.Parse(arguments))
	token := os.Getenv("STANDIN_TOKEN")
	if *api == "" || token == "" {
		check(errors.New("login wants -a URL, and STANDIN_TOKEN"))
	}
	writeLogin(Login{LoggedIn: true, Api: *api, Token: token})
}

func target(arguments []string) {
	flags := flag.NewFlagSet("target", flag.ExitOnError)
	org, space := flags.String("o", "", "org"), flags.String("s", "", "space")
	check(flags.Parse(arguments))
	login := readLogin()
	if !login.LoggedIn || *org == "" || *space == "" {
		check(errors.New("target wants a login, -o ORG and -s SPACE"))
	}
	login.OrgGuid, login.OrgName, login.SpaceGuid, login.SpaceName = "org-guid", *org, "space-guid", *space
	writeLogin(login)
}

// run serves the RPC while the plugin runs.
func run(path string, interactive bool, arguments ...string) (*PluginMetadata, error) {
	cli := &CliRpcCmd{login: readLogin()}
	server := rpc.NewServer()
	check(server.Register(cli))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go server.ServeConn(connection)
		}
	}()
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	command := exec.Command(path, append([]string{port}, arguments...)...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if interactive {
		command.Stdin = os.Stdin
	}
	err = command.Run()
	listener.Close()
	return cli.metadata, err
}

func copyFile(from, to string, mode os.FileMode) {
	source, err := os.Open(from)
	check(err)
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	check(err)
	_, err = io.Copy(target, source)
	check(err)
	check(target.Close())
}

func install(path string) {
	check(os.MkdirAll(plugins(), 0700))
	directory, err := os.MkdirTemp(plugins(), "temp")
	check(err)
	defer os.RemoveAll(directory)
	temporary := filepath.Join(directory, "042")
	copyFile(path, temporary, 0700)
	metadata, err := run(temporary, false, "SendMetadata")
	check(err)
	if metadata == nil || metadata.Name == "" || len(metadata.Commands) == 0 || metadata.LibraryVersion.Major > 1 {
		check(errors.New("file is not a valid cf CLI plugin binary"))
	}
	config := readConfig()
	refuseTaken(config, metadata)
	if old, there := config.Plugins[metadata.Name]; there {
		uninstall(old.Name)
		config = readConfig()
	}
	location := filepath.Join(plugins(), metadata.Name)
	copyFile(temporary, location, 0755)
	config.Plugins[metadata.Name] = Plugin{metadata.Name, location, metadata.Version, metadata.Commands}
	writeConfig(config)
	v := metadata.Version
	fmt.Printf("Plugin %s %d.%d.%d successfully installed.\n", metadata.Name, v.Major, v.Minor, v.Build)
}

// refuseTaken is as strict as the real one: one name that is taken, and nothing is installed.
// STANDIN_CORE names commands that the cf CLI has itself.
func refuseTaken(config Config, metadata *PluginMetadata) {
	taken := map[string]bool{"login": true, "target": true, "push": true}
	for _, name := range strings.Split(os.Getenv("STANDIN_CORE"), ",") {
		taken[name] = true
	}
	for _, plugin := range config.Plugins {
		for _, command := range plugin.Commands {
			if plugin.Name != metadata.Name {
				taken[command.Name], taken[command.Alias] = true, true
			}
		}
	}
	taken[""] = false
	for _, command := range metadata.Commands {
		if taken[command.Name] || taken[command.Alias] {
			check(fmt.Errorf("Plugin %s could not be installed as it contains commands with names and aliases "+
				"that are already used: %s", metadata.Name, command.Name))
		}
	}
}

// fetch downloads a plugin as cf does; the file is not executable.
// STANDIN_RESOLVE is the address of every host.
func fetch(url string) string {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if address := os.Getenv("STANDIN_RESOLVE"); address != "" {
		dialer := &net.Dialer{}
		transport.DialContext = func(ctx context.Context, network, place string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(place)
			if err != nil {
				return nil, err
			}
			return dialer.DialContext(ctx, network, net.JoinHostPort(address, port))
		}
	}
	answer, err := (&http.Client{Transport: transport}).Get(url)
	check(err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		check(fmt.Errorf("download attempt failed; server returned %d", answer.StatusCode))
	}
	file, err := os.CreateTemp("", "cf-plugin")
	check(err)
	_, err = io.Copy(file, answer.Body)
	check(err)
	check(file.Close())
	check(os.Chmod(file.Name(), 0644))
	return file.Name()
}

func uninstall(name string) {
	config := readConfig()
	plugin, there := config.Plugins[name]
	if !there {
		check(fmt.Errorf("plugin %s does not exist", name))
	}
	_, err := run(plugin.Location, true, "CLI-MESSAGE-UNINSTALL")
	check(err)
	check(os.Remove(plugin.Location))
	delete(config.Plugins, name)
	writeConfig(config)
	fmt.Printf("Plugin %s successfully uninstalled.\n", name)
}

func find(name string) (Plugin, Command) {
	for _, plugin := range readConfig().Plugins {
		for _, command := range plugin.Commands {
			if name == command.Name || name == command.Alias {
				return plugin, command
			}
		}
	}
	check(fmt.Errorf("'%s' is not a registered command. See 'cf help -a'", name))
	panic("unreachable")
}

func help(name string) {
	_, command := find(name)
	fmt.Printf("NAME:\n   %s - %s\n\nUSAGE:\n   %s\n\nALIAS:\n   %s\n\nOPTIONS:\n",
		command.Name, command.HelpText, command.UsageDetails.Usage, command.Alias)
	names := []string{}
	for option := range command.UsageDetails.Options {
		names = append(names, option)
	}
	sort.Strings(names)
	for _, option := range names {
		dashes := "--"
		if len(option) == 1 {
			dashes = "-"
		}
		fmt.Printf("   %-18s %s\n", dashes+option, command.UsageDetails.Options[option])
	}
}

func main() {
	arguments := os.Args[1:]
	switch arguments[0] {
	case "install-plugin":
		path := arguments[1]
		if strings.HasPrefix(path, "https://") || strings.HasPrefix(path, "http://") {
			path = fetch(path)
			defer os.Remove(path)
		}
		install(path)
	case "uninstall-plugin":
		uninstall(arguments[1])
	case "login":
		logIn(arguments[1:])
	case "target":
		target(arguments[1:])
	case "ssh":
		if !readLogin().LoggedIn {
			check(errors.New("Not logged in. Use 'cf login' or 'cf login --sso' to log in."))
		}
		check(syscall.Exec(os.Getenv("STANDIN_CF"), os.Args, os.Environ()))
	case "help":
		help(arguments[1])
	default:
		plugin, command := find(arguments[0])
		if _, err := run(plugin.Location, true, append([]string{command.Name}, arguments[1:]...)...); err != nil {
			os.Exit(1)
		}
	}
}
