# Renders all templates of a BOSH job as the director does: ERB with '-', and
# p, if_p, link, if_link and spec.  Reads a question as JSON, writes the answer.
#
#   {"job": DIRECTORY, "properties": {…}, "spec": {…}, "links": {…}}
#   {"files": {TARGET: TEXT}, "asked": [NAME…]}  or  {"error": …, "template": …}
require 'erb'
require 'json'
require 'ostruct'
require 'yaml'

class UnknownProperty < StandardError
  def initialize(names) = super("Can't find property '#{names.join("', or '")}'")
end

class UnknownLink < StandardError
  def initialize(name) = super("Can't find link '#{name}'")
end

def lookup(tree, name)
  name.split('.').reduce(tree) { |node, key| node.is_a?(Hash) ? node[key] : nil }
end

# What is declared, with defaults where the manifest says nothing; nothing else.
def settled(declared, given)
  declared.each_with_object({}) do |(name, definition), result|
    value = lookup(given, name)
    value = definition['default'] if value.nil?
    *path, last = name.split('.')
    path.reduce(result) { |node, key| node[key] ||= {} }[last] = value
  end
end

module Properties
  def p(names, *default)
    names = Array(names)
    asked(names)
    names.each do |name|
      value = lookup(properties, name)
      return value unless value.nil?
    end
    raise UnknownProperty, names if default.empty?
    default.first
  end

  def if_p(*names)
    asked(names)
    values = names.map { |name| lookup(properties, name) }
    return Otherwise.new(self) if values.any?(&:nil?)
    yield(*values)
    Done.new
  end
end

class Otherwise
  def initialize(context) = @context = context
  def else = yield
  def else_if_p(*names, &block) = @context.if_p(*names, &block)
end

class Done
  def else = nil
  def else_if_p(*) = self
end

class Link
  include Properties
  attr_reader :instances, :properties, :address

  def initialize(values)
    @instances = values['instances'].map { |instance| OpenStruct.new(instance) }
    @properties = values['properties'] || {}
    @address = values['address']
  end

  def asked(_names) = nil
end

class Context
  include Properties
  attr_reader :properties, :spec

  def initialize(properties, spec, consumes, links, seen)
    @properties, @spec, @consumes, @links, @seen = properties, OpenStruct.new(spec), consumes, links, seen
  end

  def asked(names) = @seen.concat(names)

  def link(name)
    raise UnknownLink, name unless @consumes.include?(name) && @links[name]
    Link.new(@links[name])
  end

  def if_link(name)
    return Otherwise.new(self) unless @consumes.include?(name) && @links[name]
    yield link(name)
    Done.new
  end

  def render(text) = ERB.new(text, trim_mode: '-').result(binding)
end

question = JSON.parse($stdin.read)
job = question['job']
declaration = YAML.safe_load_file("#{job}/spec")
properties = settled(declaration['properties'] || {}, question['properties'])
consumes = (declaration['consumes'] || []).map { |link| link['name'] }
seen = []
templates = declaration['templates'].to_h { |source, target| ["templates/#{source}", target] }
templates['monit'] = 'monit'

files = {}
templates.each do |source, target|
  context = Context.new(properties, question['spec'], consumes, question['links'], seen)
  files[target] = context.render(File.read("#{job}/#{source}"))
rescue StandardError => e
  puts JSON.generate('error' => e.message, 'template' => source)
  exit
end
puts JSON.generate('files' => files, 'asked' => seen.uniq)
