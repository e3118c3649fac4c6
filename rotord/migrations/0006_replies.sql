-- A client's own host of its unsubscribe links; whom the replies of a client, a domain or an address are forwarded to.
ALTER TABLE rotord.clients
  ADD COLUMN unsubscribe_host text,
  ADD COLUMN forward_replies_to text,
  ADD CONSTRAINT clients_unsubscribe_host_is_a_lower_case_host_name CHECK (length(unsubscribe_host) <= 253
    AND unsubscribe_host ~ '^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)+$'),
  ADD CONSTRAINT clients_forward_replies_to_is_one_address CHECK (rotord.is_address(forward_replies_to));
ALTER TABLE rotord.domains
  ADD COLUMN forward_replies_to text,
  ADD CONSTRAINT domains_forward_replies_to_is_one_address CHECK (rotord.is_address(forward_replies_to));
ALTER TABLE rotord.addresses
  ADD COLUMN forward_replies_to text,
  ADD CONSTRAINT addresses_forward_replies_to_is_one_address CHECK (rotord.is_address(forward_replies_to));
