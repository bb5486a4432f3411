# Run by perl with libvirt's own module, Sys::Virt: takes a URI and a running domain's name, prints what it saw.

use strict;
use warnings;
use JSON::PP;
use Sys::Virt;

my ($uri, $name) = @ARGV;
my $connection = Sys::Virt->new(uri => $uri);
my $domain = $connection->get_domain_by_name($name);
my %seen = (
    type => $connection->get_type(),
    domains => [map { $_->get_name() } $connection->list_all_domains()],
    running => [map { $_->get_name() } $connection->list_domains()],
    state => $domain->get_info()->{state},
);

my $snapshot = $domain->create_snapshot("<domainsnapshot><name>one</name></domainsnapshot>");
my $child = $domain->create_snapshot(
    "<domainsnapshot><name>two</name></domainsnapshot>", Sys::Virt::DomainSnapshot::CREATE_DISK_ONLY);
$seen{snapshots} = [map { $_->get_name() } $domain->list_all_snapshots()];
$seen{current} = $domain->current_snapshot()->get_name();
$seen{parent} = $child->get_parent()->get_name();
$domain->suspend();
my $before = $domain->get_id();
$snapshot->revert_to(Sys::Virt::DomainSnapshot::REVERT_RUNNING);
$seen{reverted} = [$domain->get_state(), $connection->get_domain_by_name($name)->get_id() > $before ? 1 : 0];
$snapshot->delete(Sys::Virt::DomainSnapshot::DELETE_CHILDREN);
$seen{left} = $domain->num_of_snapshots();
eval { $domain->get_snapshot_by_name("one") };
$seen{nothing} = [$@->code, $@->domain, $@->message];
my $readonly = Sys::Virt->new(uri => $uri, readonly => 1);
eval { $readonly->get_domain_by_name($name)->destroy() };
$seen{readonly} = [$@->code, $@->message];
print JSON::PP->new->canonical->encode(\%seen), "\n";
